"""`/llmos/v1/blobs/{digest}`: files by their SHA-256, streamed to and from the store."""

import re

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.gateway.http.body import check_encoding, stream_body
from services.gateway.http.responses import json_response
from shared.errors import InvalidInput, NotFound, Unavailable
from shared.storage.port import ArtifactStore

_DIGEST = re.compile(r"^[0-9a-f]{64}$")


class BlobsApi:
    """Blobs. Without a store every route fails with `Unavailable`."""

    def __init__(self, store: ArtifactStore | None) -> None:
        self._store = store

    async def show(self, request: Request) -> Response:
        """Whether a blob exists with its digest, and its bytes for GET; raises `NotFound`.

        The bytes of a blob that was changed in the store end early.
        """
        digest, store = _digest(request), self._opened()
        size = await store.blob_size(digest)
        if size is None or (request.method == "HEAD" and not await store.holds_blob(digest)):
            raise NotFound(f"there is no blob {digest}", param="digest")
        headers = {"content-length": str(size), "etag": f'"{digest}"'}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="application/octet-stream")
        return StreamingResponse(store.read_blob(digest), headers=headers, media_type="application/octet-stream")

    async def put(self, request: Request) -> Response:
        """Store a blob: 201 when it is new or replaces a damaged one, 200 when it was there.

        Raises `CorruptFile` when the digest differs.
        """
        check_encoding(request)
        digest, store = _digest(request), self._opened()
        body = stream_body(request)
        try:
            if await store.holds_blob(digest):
                return json_response({"digest": digest, "size": await store.blob_size(digest)})
            size = await store.put_blob(digest, body, size=_announced(request))
        finally:
            # Clients that are still sending would see a reset connection instead of the response.
            async for _ in body:
                pass
        return json_response({"digest": digest, "size": size}, status=201)

    def _opened(self) -> ArtifactStore:
        if self._store is None:
            raise Unavailable("this gateway has no store: set LLMOS_STORE_URL to the store that the registry uses")
        return self._store


def _digest(request: Request) -> str:
    digest: str = request.path_params["digest"]
    if not _DIGEST.match(digest):
        raise InvalidInput("a digest is the SHA-256 of the file: 64 lower-case hexadecimal digits", param="digest")
    return digest


def _announced(request: Request) -> int | None:
    """Bytes of the body, where the client announces them."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None
