"""The routes of `/v1/files`."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.gateway.http.body import stream_body
from services.gateway.http.middleware import state_of
from services.gateway.http.operation import OCTETS, Content, Operation
from services.gateway.http.responses import json_response
from services.gateway.openai.files.form import read_upload
from services.gateway.openai.files.records import FileRecords
from services.gateway.openai.pages import check_query, limit_of, page_of
from shared.contracts.file import UploadedFile
from shared.errors import InvalidInput, LlmosError, PayloadTooLarge, Unavailable
from shared.storage.port import ArtifactStore

_PATH = "/v1/files"
_FILE = _PATH + "/{file_id}"
_TAG = "training"
_MOST = 10_000
_FORM_OVERHEAD = 1 << 20
"""Bytes of a form beside its file."""
_FORM: Content = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file", "purpose"],
            "properties": {
                "file": {"type": "string", "format": "binary"},
                "purpose": {"type": "string"},
                "expires_after[anchor]": {"type": "string"},
                "expires_after[seconds]": {"type": "integer"},
            },
        }
    }
}


class FilesApi:
    """Uploaded files.

    Args:
        records: Of the files.
        store: Has their bytes; without one every route that needs them fails with `Unavailable`.
        max_file: Bytes of a file at most.
    """

    def __init__(self, records: FileRecords, store: ArtifactStore | None, max_file: int) -> None:
        self._records = records
        self._store = store
        self._max_file = max_file

    def operations(self) -> list[Operation]:
        """The operations."""
        query = {
            "after": "The id of the last file of the page before",
            "limit": f"How many: 1 to {_MOST}, {_MOST} by default",
            "order": "asc or desc (the default), by the time of the upload",
            "purpose": "Only files for this",
        }
        return [
            Operation("POST", _PATH, self.create, "Upload a file, as OpenAI has it", _TAG, body=_FORM),
            Operation("GET", _PATH, self.list, "The uploaded files", _TAG, query=query),
            Operation("GET", _FILE, self.show, "An uploaded file", _TAG),
            Operation("GET", _FILE + "/content", self.content, "The bytes of a file", _TAG, result=OCTETS),
            Operation("DELETE", _FILE, self.delete, "Delete a file", _TAG),
        ]

    async def create(self, request: Request) -> Response:
        """Store a file; raises what `read_upload` raises."""
        store, now = self._opened(), datetime.now(UTC)
        content_type, body = request.headers.get("content-type", ""), stream_body(request)
        try:
            self._check_announced(request)
            upload = await read_upload(content_type, body, store, self._max_file, now)
        except LlmosError:
            await self._drain(body)
            raise
        file = UploadedFile(
            id=f"file-{secrets.token_hex(12)}",
            name=upload.name,
            purpose=upload.purpose,
            digest=upload.digest,
            size=upload.size,
            rows=upload.rows,
            longest=upload.longest,
            owner=state_of(request.scope).key_id or "",
            created_at=now,
            expires_at=upload.expires_at,
        )
        await self._records.create(file)
        return json_response(view(file))

    async def list(self, request: Request) -> Response:
        """A page of the files."""
        check_query(request, "after", "limit", "order", "purpose")
        order, purpose = request.query_params.get("order", "desc"), request.query_params.get("purpose")
        if order not in ("asc", "desc"):
            raise InvalidInput(f"order must be asc or desc, not {order[:40]!r}", param="order")
        files = [file for file in await self._records.list() if purpose in (None, file.purpose)]
        if order == "desc":
            files.reverse()
        return json_response(
            page_of([view(file) for file in files], request, limit_of(request, default=_MOST, most=_MOST))
        )

    async def show(self, request: Request) -> Response:
        """One file; raises `NotFound`."""
        return json_response(view(await self._records.get(request.path_params["file_id"])))

    async def content(self, request: Request) -> Response:
        """The bytes of a file; raises `NotFound`."""
        store = self._opened()
        file = await self._records.get(request.path_params["file_id"])
        headers = {
            "content-length": str(file.size),
            "content-disposition": f"attachment; filename*=utf-8''{quote(file.name)}",
        }
        return StreamingResponse(store.read_blob(file.digest), headers=headers, media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        """Delete a file; raises `NotFound`. A job that uses it goes on."""
        file_id = request.path_params["file_id"]
        await self._records.delete(file_id)
        return json_response({"id": file_id, "object": "file", "deleted": True})

    def _opened(self) -> ArtifactStore:
        if self._store is None:
            raise Unavailable("this gateway has no store: set LLMOS_STORE_URL to the store that the registry uses")
        return self._store

    def _check_announced(self, request: Request) -> None:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._max_file + _FORM_OVERHEAD):
            limit = f"{self._max_file / (1 << 20):g} MiB"
            raise PayloadTooLarge(f"the file is larger than {limit} (LLMOS_GATEWAY_MAX_FILE)", param="file")

    async def _drain(self, body: AsyncIterator[bytes]) -> None:
        """Read on for a while: a client that is still sending would see a reset connection, and no response."""
        left = self._max_file
        async for chunk in body:
            left -= len(chunk)
            if left < 0:
                return


def view(file: UploadedFile) -> dict[str, Any]:
    """OpenAI's file object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": int(file.expires_at.timestamp()) if file.expires_at else None,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
