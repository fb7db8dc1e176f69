"""The part of the client that is about the bytes of files, by their digest."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from llmos.transport import Transport, admin_path
from shared.errors import CorruptFile, Unavailable
from shared.storage.port import CHUNK


class Blobs:
    """Files in the store of one gateway. Errors are those of `shared.errors`."""

    def __init__(self, gateway: Transport) -> None:
        self._gateway = gateway

    def has(self, digest: str) -> bool:
        """Whether the store has these bytes already."""
        return self._gateway.exists(admin_path("blobs", digest))

    def upload(self, digest: str, path: Path, sent: Callable[[int], None]) -> None:
        """Upload a file; `sent` gets the number of bytes sent so far. The server verifies the digest."""

        def chunks() -> Iterator[bytes]:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
                    sent(file.tell())

        self._gateway.put(admin_path("blobs", digest), chunks(), path.stat().st_size)

    def download(self, digest: str, path: Path, received: Callable[[int], None]) -> None:
        """Download a file; `received` gets the number of bytes so far. Raises CorruptFile for another digest."""
        found = hashlib.sha256()
        with path.open("wb") as file:
            try:
                for chunk in self._gateway.chunks(admin_path("blobs", digest)):
                    file.write(chunk)
                    found.update(chunk)
                    received(file.tell())
            except Unavailable as error:  # the store ends a file before its last piece if it finds it damaged
                raise Unavailable(
                    f"{path.name}: {error}; the stored file may be damaged: llmos model verify"
                ) from error
        if found.hexdigest() != digest:
            path.unlink()
            raise CorruptFile(f"the store gave other bytes for blob {digest}; run the command again")
