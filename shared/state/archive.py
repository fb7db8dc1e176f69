"""A backup's file: a tar that any `tar` lists and unpacks. Blocking.

| member | what |
|---|---|
| `backup.json` | the first: format, version of LLMOS, system, time, whether files of versions are in it |
| `state.json` | all control state |
| `manifests/…`, `datasets/…`, `reports/…` | manifests, as a store has them |
| `blobs/sha256/…` | files of versions, of uploads and of jobs, as a store has them |
| `index.json` | the last: size and SHA-256 of each of the others; a file without it was cut off |
"""

import contextlib
import hashlib
import os
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

from pydantic import ValidationError

from shared.contracts.base import Contract
from shared.contracts.state import Stamp, check_format
from shared.errors import Conflict, CorruptFile, NotFound
from shared.storage.port import CHUNK

Parsed = TypeVar("Parsed", bound=Contract)

HEADER, STATE, INDEX = "backup.json", "state.json", "index.json"


class BackupHeader(Stamp):
    """What a backup is."""

    system: str = ""
    taken_at: datetime
    weights: bool
    """Whether it has the files of versions."""


class Member(Contract):
    """A member, as the index has it."""

    size: int
    sha256: str


class Index(Contract):
    """All members but itself."""

    members: dict[str, Member]


class ArchiveWriter:
    """Writes a backup whole or not at all: until `finish` it has another name. Readable by its owner only.

    Raises:
        Conflict: There is a file of this name.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise Conflict(f"{path} exists; give another name")
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "w+b")
        self._members: dict[str, Member] = {}
        self._begun = time.time()
        self.size = 0
        """Bytes so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def add(self, name: str, data: bytes) -> None:
        """A member from memory."""
        self._begin(name, len(data))
        self._file.write(data)
        self._end(name, len(data), hashlib.sha256(data).hexdigest())

    async def add_chunks(self, name: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """A member of `size` bytes in pieces. What `chunks` raises passes through, and nothing of it stays."""
        start, digest, written = self._file.tell(), hashlib.sha256(), 0
        try:
            self._begin(name, size)
            async for chunk in chunks:
                self._file.write(chunk)
                digest.update(chunk)
                written += len(chunk)
            _require_size(name, written, size)
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise
        self._end(name, size, digest.hexdigest())

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def finish(self) -> None:
        """Write the index, and give the file its name."""
        self.add(INDEX, Index(members=self._members).encode())
        self._file.write(b"\0" * 2 * tarfile.BLOCKSIZE)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.size = self._file.tell()
        self._partial.rename(self._path)

    def _begin(self, name: str, size: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = size, 0o600, self._begun
        self._file.write(member.tobuf(tarfile.PAX_FORMAT))

    def _end(self, name: str, size: int, sha256: str) -> None:
        self._file.write(b"\0" * (-size % tarfile.BLOCKSIZE))
        self._members[name] = Member(size=size, sha256=sha256)


class ArchiveReader:
    """Reads a backup; its control state is verified here, the rest as it is stored.

    Raises:
        NotFound: There is no such file.
        CorruptFile: It is no backup, or was cut off or changed.
        UnsupportedFormat: A newer LLMOS wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._what = str(path)
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115  # closed by `__exit__`
        except FileNotFoundError as error:
            raise NotFound(f"there is no file {path}") from error
        except (tarfile.TarError, IsADirectoryError) as error:
            raise CorruptFile(f"{path} is no backup of LLMOS: {error}") from error
        with contextlib.ExitStack() as stack:
            stack.callback(self._tar.close)
            self._members = self._listed()
            first = next(iter(self._members), None)
            if first != HEADER:
                raise CorruptFile(f"{path} is no backup of LLMOS: it does not begin with {HEADER}")
            header = self.read(HEADER)
            check_format(self._parsed(Stamp, header), str(path))
            self.header = self._parsed(BackupHeader, header)
            if INDEX not in self._members:
                raise CorruptFile(f"{path} was cut off: it has no {INDEX}; copy it again")
            self._index = self._parsed(Index, self.read(INDEX)).members
            for name, member in self._index.items():
                if name not in self._members or self._members[name].size != member.size:
                    raise CorruptFile(f"{path} was changed: {name} is not as {INDEX} has it")
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    @property
    def names(self) -> tuple[str, ...]:
        """All members, in order."""
        return tuple(self._index)

    def state(self) -> bytes:
        """The control state; raises `CorruptFile`."""
        return self.verified(STATE)

    def verified(self, name: str) -> bytes:
        """A small member; raises `CorruptFile` if it was changed."""
        data = self.read(name)
        if hashlib.sha256(data).hexdigest() != self._index[name].sha256:
            raise CorruptFile(f"{self._what} was changed: {name} has other bytes than {INDEX} says")
        return data

    def read(self, name: str) -> bytes:
        """A small member as it is."""
        return b"".join(self._pieces(name))

    def size_of(self, name: str) -> int:
        """Bytes of a member."""
        return self._index[name].size

    async def chunks(self, name: str) -> AsyncIterator[bytes]:
        """A member in pieces."""
        for piece in self._pieces(name):
            yield piece

    def _pieces(self, name: str) -> Iterator[bytes]:
        file = self._tar.extractfile(self._members[name])
        assert file is not None
        with file:
            while piece := file.read(CHUNK):
                yield piece

    def _listed(self) -> dict[str, tarfile.TarInfo]:
        try:
            return {member.name: member for member in self._tar if member.isreg()}
        except tarfile.TarError as error:
            raise CorruptFile(f"{self._what} was cut off or changed: {error}; copy it again") from error

    def _parsed(self, contract: type[Parsed], data: bytes) -> Parsed:
        try:
            return contract.decode(data)
        except ValidationError as error:
            raise CorruptFile(f"{self._what} is no backup of LLMOS: {error}") from error


def _require_size(name: str, written: int, size: int) -> None:
    if written != size:
        raise CorruptFile(f"{name} has {written} bytes, and {size} were announced")
