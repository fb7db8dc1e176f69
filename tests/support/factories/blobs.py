"""Blobs for tests."""

import hashlib
import random
from collections.abc import AsyncIterator


def content(size: int, seed: int = 0) -> bytes:
    """`size` bytes that do not repeat; the same for the same seed."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    """The digest that names `data`."""
    return hashlib.sha256(data).hexdigest()


async def stream(data: bytes, piece: int = 64 * 1024) -> AsyncIterator[bytes]:
    """`data` in pieces, as a network would bring it."""
    for start in range(0, len(data), piece):
        yield data[start : start + piece]
