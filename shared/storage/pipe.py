"""An asynchronous stream as a file that a thread can read: for libraries that take nothing else."""

import asyncio
import hashlib
from queue import SimpleQueue

from shared.storage.digest import require_digest

_AHEAD = 2
"""Pieces that may wait for the reader."""


class VerifiedPipe:
    """One end is written by the event loop, the other read by a thread; the bytes are hashed on their way.

    The reader learns of the end of the stream only if all of it hashes to `promised`, otherwise `read` raises
    `CorruptFile`: a library that sends what it reads never gets to finish the object. None: any bytes are right.
    """

    def __init__(self, promised: str | None) -> None:
        self.size = 0
        self._promised = promised
        self._hash = hashlib.sha256()
        self._loop = asyncio.get_running_loop()
        self._space = asyncio.Semaphore(_AHEAD)
        self._reader_gone = False
        self._pieces: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._buffer = bytearray()
        self._ended = False

    @property
    def digest(self) -> str:
        """SHA-256 of what was read so far."""
        return self._hash.hexdigest()

    async def write(self, piece: bytes) -> bool:
        """Hand on `piece` when the reader has space for it; False when the reader has gone."""
        await self._space.acquire()
        if self._reader_gone:
            self._space.release()
            return False
        self._pieces.put(piece)
        return True

    def end(self, error: BaseException | None = None) -> None:
        """No more pieces will come; with `error`, `read` raises it instead of ending."""
        self._pieces.put(error)

    def reader_left(self) -> None:
        """The reader has gone: `write` returns False from now on."""
        self._reader_gone = True
        self._space.release()

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end. Called by the thread."""
        while len(self._buffer) < size and not self._ended:
            self._take()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _take(self) -> None:
        piece = self._pieces.get()
        if isinstance(piece, BaseException):
            raise piece
        if piece is None:
            self._ended = True
            if self._promised is not None:
                require_digest(self.digest, self._promised, self.size)
            return
        self._loop.call_soon_threadsafe(self._space.release)
        self._hash.update(piece)
        self.size += len(piece)
        self._buffer += piece
