"""Reads stored bytes to the end and compares them with their digest, at any speed."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path

from shared.contracts.scrub import BlobState, CheckedBlob
from shared.errors import CorruptFile, NotFound, Unavailable
from shared.storage.digest import verified
from shared.storage.port import CHUNK

Pause = Callable[[int], Awaitable[None]]
"""Called with the number of bytes that were read; returns when the next may be."""


async def no_pause(_: int) -> None:
    """As fast as it goes."""


def paced(rate: int, clock: Callable[[], float] = time.monotonic) -> Pause:
    """Lets `rate` bytes a second through; time that was not used for reading is not made up for."""
    due = clock()

    async def pause(count: int) -> None:
        nonlocal due
        due = max(due, clock()) + count / rate
        await asyncio.sleep(max(0.0, due - clock()))

    return pause


async def check_blob(chunks: AsyncIterator[bytes], pause: Pause = no_pause) -> CheckedBlob:
    """What reading `chunks`, which raise `CorruptFile` for a wrong digest, comes to.

    Raises `Unavailable`: it is not known.
    """
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            await pause(len(chunk))
    except NotFound:
        return CheckedBlob(state=BlobState.MISSING, size=0)
    except CorruptFile:
        return CheckedBlob(state=BlobState.DAMAGED, size=size)
    return CheckedBlob(state=BlobState.WHOLE, size=size)


def read_file(path: Path, digest: str) -> AsyncGenerator[bytes, None]:
    """A file in chunks, as `ArtifactStore.read_blob` gives a blob; raises `Unavailable` if it can't be read."""
    return verified(digest, _chunks(path))


async def _chunks(path: Path) -> AsyncGenerator[bytes, None]:
    try:
        with await asyncio.to_thread(path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
    except FileNotFoundError as error:
        raise NotFound(f"{path} is not there") from error
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error.strerror}") from error
