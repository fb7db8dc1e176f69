"""The blobs of a version that an import is about to make: the next start removes what a failed import left.

A journal is a file with a digest per line. Its import holds a lock on it (`flock`), which the kernel frees when the
process ends in any way.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

_DIGEST = re.compile(rb"^[0-9a-f]{64}$", re.MULTILINE)


class ImportJournal:
    """The journal of one import; removed when the import has succeeded."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[Self]:
        """A new journal in `folder`. With blobs in it, it stays there if an exception leaves the block."""
        path = folder / uuid4().hex
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield cls(descriptor)
            path.unlink(missing_ok=True)
        finally:
            if os.fstat(descriptor).st_size == 0:
                path.unlink(missing_ok=True)
            os.close(descriptor)

    def add(self, digests: Iterable[str]) -> None:
        """Note blobs, before they are uploaded."""
        os.write(self._descriptor, "".join(f"{digest}\n" for digest in digests).encode())


def abandoned(folder: Path) -> dict[Path, frozenset[str]]:
    """The journals of imports that have ended without a version, with their blobs that no running import needs."""
    ended: dict[Path, frozenset[str]] = {}
    in_use: set[str] = set()
    for path in sorted(folder.iterdir()):
        with suppress(FileNotFoundError), path.open("rb") as journal:
            digests = frozenset(found.decode() for found in _DIGEST.findall(journal.read()))
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its import runs
                in_use |= digests
            else:
                ended[path] = digests
    return {path: digests - in_use for path, digests in ended.items()}
