"""The check that every byte passes on its way in and out."""

import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from shared.errors import CorruptFile

_PIECE = 4 << 20


def require_digest(found: str, promised: str, size: int) -> None:
    """Raise `CorruptFile` unless `size` bytes that hash to `found` are the blob `promised`."""
    if found != promised:
        raise CorruptFile(
            f"blob {promised} is not what it says: the {size} bytes that arrived hash to {found}; "
            "the file was cut or changed on its way, or the digest is another file's",
            param="digest",
        )


async def verified(digest: str, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The chunks of a stored blob, the last one only if all of them hash to `digest`: a wrong blob stays incomplete.

    Raises:
        CorruptFile: The blob was changed in the store.
    """
    found = hashlib.sha256()
    before: bytes | None = None
    async with aclosing(chunks):
        async for chunk in chunks:
            if before is not None:
                yield before
            found.update(chunk)
            before = chunk
    if found.hexdigest() != digest:
        raise damaged(digest)
    if before is not None:
        yield before


def damaged(digest: str) -> CorruptFile:
    """The error for a blob that was changed where it is stored."""
    return CorruptFile(
        f"blob {digest} was changed in the store: it no longer has its digest; import the model or data again, which"
        " replaces it",
        param="digest",
    )


def file_digest(path: Path, on_read: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of a file, read piece by piece; `on_read` is called with the number of bytes read so far."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
            on_read(file.tell())
    return found.hexdigest()
