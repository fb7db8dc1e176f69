"""Where a stage reads its blocks: versions, or what the stage before it wrote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from devtools.data.row_file import RowFile, cut
from devtools.data.stage import Block
from devtools.data.steps import Flags
from devtools.data.version import SPLITS
from devtools.data.write import split_of
from shared.contracts.dataset import DatasetManifest
from shared.contracts.manifest import Digest


@dataclass(frozen=True, slots=True)
class Input:
    """A version that rows are read from.

    folder: with its files
    digest: of its manifest
    share: of its rows that are taken, by the hashes of their ids
    """

    folder: Path
    manifest: DatasetManifest
    digest: Digest
    share: float = 1.0


class BlockSource(Protocol):
    """Blocks of rows."""

    @property
    def size(self) -> int:
        """Bytes of all."""

    def blocks(self) -> Iterator[Block]:
        """In the order of the rows."""


class InputBlocks:
    """Versions, split by split."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._inputs = inputs
        self.size = sum(one.manifest.size for one in inputs)

    def blocks(self) -> Iterator[Block]:
        """In the order of the rows."""
        splits = {split for one in self._inputs for split in one.manifest.splits}
        for split in [*(name for name in SPLITS if name in splits), *sorted(splits - set(SPLITS))]:
            for number, one in enumerate(self._inputs):
                for file in one.manifest.files:
                    if split_of(file.path) == split:
                        with (one.folder / file.path).open("rb") as opened:
                            for lines in cut(opened, file.size):
                                yield Block(lines, split, share=one.share, source=number)


class StageBlocks:
    """What a stage wrote, without the rows that its whole step dropped."""

    def __init__(self, file: RowFile, stays: Flags) -> None:
        self._file = file
        self._stays = stays
        self.size = file.size

    def blocks(self) -> Iterator[Block]:
        """In the order of the rows."""
        at = 0
        for split, lines in self._file.blocks():
            rows = lines.count(b"\n")
            yield Block(lines, split, self._stays[at : at + rows])
            at += rows
