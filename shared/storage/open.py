"""The store that an URL names."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from shared.errors import InvalidInput
from shared.storage.directory import DirectoryStore
from shared.storage.port import ArtifactStore

_FORMS = "expected file:///a/folder or s3://bucket?endpoint=http://host:9000 in LLMOS_STORE_URL"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_AWS = "https://s3.amazonaws.com"


def open_store(
    url: str, *, access_key: str | None = None, secret_key: str | None = None, cache_limit: int | None = None
) -> ArtifactStore:
    """The store at `url`.

    Args:
        url: `file:///a/folder`, or `s3://bucket?endpoint=http://host:9000` (with `&region=…` where it matters;
            without an endpoint, Amazon's).
        access_key: For S3.
        secret_key: For S3.
        cache_limit: Bytes that `fetch_blob` may keep in its cache folder; None for no limit.

    Raises:
        InvalidInput: Not such an URL.
        Unavailable: A folder that can't be made or written. An S3 server is first asked by the first call.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise _wrong(f"{url!r} must name a folder on this machine by its full path")
        return DirectoryStore(Path(unquote(parts.path)), cache_limit=cache_limit)
    if parts.scheme == "s3":
        return _open_s3(parts, access_key, secret_key, cache_limit)
    raise _wrong(f"{url!r} is not the URL of a store")


def open_store_with(url: str, environment: Mapping[str, str]) -> ArtifactStore:
    """The store at `url` with the S3 credentials of an environment, for commands; raises as `open_store`."""
    return open_store(
        url,
        access_key=environment.get("LLMOS_S3_ACCESS_KEY"),
        secret_key=environment.get("LLMOS_S3_SECRET_KEY"),
    )


def _open_s3(
    parts: SplitResult, access_key: str | None, secret_key: str | None, cache_limit: int | None
) -> ArtifactStore:
    from shared.storage.s3 import S3Store  # noqa: PLC0415  # a directory works without the S3 client installed

    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = query.keys() - {"endpoint", "region"}
    if unknown:
        raise _wrong(f"a store's URL has no parameter {min(unknown)!r}")
    if not _BUCKET.fullmatch(parts.netloc) or parts.path not in {"", "/"}:
        raise _wrong(f"{parts.netloc + parts.path!r} is not the name of a bucket")
    endpoint = urlsplit(query.get("endpoint", _AWS))
    if endpoint.scheme not in {"http", "https"} or not endpoint.hostname or endpoint.path not in {"", "/"}:
        raise _wrong(f"{endpoint.geturl()!r} is not the address of an S3 server")
    if access_key and not secret_key:
        raise InvalidInput("LLMOS_S3_ACCESS_KEY needs LLMOS_S3_SECRET_KEY beside it", param="secret_key")
    try:
        return S3Store(
            endpoint.netloc,
            parts.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=endpoint.scheme == "https",
            region=query.get("region"),
            cache_limit=cache_limit,
        )
    except ValueError as error:  # the client checks hosts and ports more closely
        raise _wrong(f"{endpoint.geturl()!r} is not the address of an S3 server: {error}") from error


def _wrong(problem: str) -> InvalidInput:
    return InvalidInput(f"{problem}; {_FORMS}", param="store_url")
