"""Rows as shards: files of JSON Lines that are cut by their size, so that equal rows give equal bytes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from devtools.data.rows import Row
from shared.contracts.manifest import ManifestFile

SHARD_BYTES = 64 << 20
"""A shard ends with the line that reaches so many bytes."""


class ShardWriter:
    """Writes the rows of one split to `<split>-00000.jsonl` and further files; use it in a `with` block.

    Args:
        folder: For the files.
        split: Name of the split.
        shard_bytes: Where a file ends.
    """

    def __init__(self, folder: Path, split: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._split = split
        self._shard_bytes = shard_bytes
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._size = 0
        self.rows = 0
        self.files: list[ManifestFile] = []
        """Those that are complete; all of them after the `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def write(self, row: Row) -> None:
        """Write one row."""
        self.write_line(row.canonical() + b"\n")

    def write_line(self, line: bytes) -> None:
        """Write a row that is encoded already, with its end of line."""
        if self._file is None:
            self._file = (self._folder / self._name()).open("wb")
        self._file.write(line)
        self._hash.update(line)
        self._size += len(line)
        self.rows += 1
        if self._size >= self._shard_bytes:
            self._close()

    def _name(self) -> str:
        return f"{self._split}-{len(self.files):05d}.jsonl"

    def _close(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self.files.append(ManifestFile(path=self._name(), digest=self._hash.hexdigest(), size=self._size))
        self._file, self._hash, self._size = None, hashlib.sha256(), 0


def split_of(path: str) -> str:
    """The split that a shard belongs to: `train` of `train-00000.jsonl`."""
    return path.rsplit("-", 1)[0]


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a shard, each with its end of line."""
    with path.open("rb") as file:
        yield from file
