"""The store that an URL names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from shared.errors import InvalidInput
from shared.storage.directory import DirectoryStore
from shared.storage.port import ArtifactStore

_FORMS = "expected file:///a/folder or s3://bucket?endpoint=http://host:9000 in LLMOS_STORE_URL"


def open_store(url: str, *, access_key: str | None = None, secret_key: str | None = None) -> ArtifactStore:
    """The store at `url`.

    Args:
        url: `file:///a/folder`, or `s3://bucket?endpoint=http://host:9000`.
        access_key: For S3.
        secret_key: For S3.

    Raises:
        InvalidInput: Not such an URL.
        Unavailable: A folder that can't be made or written.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise InvalidInput(
                f"{url!r} must name a folder on this machine by its full path; {_FORMS}", param="store_url"
            )
        return DirectoryStore(Path(unquote(parts.path)))
    raise InvalidInput(f"{url!r} is not the URL of a store; {_FORMS}", param="store_url")
