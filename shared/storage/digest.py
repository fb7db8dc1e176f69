"""The one check that every byte passes on its way in."""

from shared.errors import CorruptFile


def require_digest(found: str, promised: str, size: int) -> None:
    """Raise `CorruptFile` unless `size` bytes that hash to `found` are the blob `promised`."""
    if found != promised:
        raise CorruptFile(
            f"blob {promised} is not what it says: the {size} bytes that arrived hash to {found}; "
            "the file was cut or changed on its way, or the digest is another file's",
            param="digest",
        )
