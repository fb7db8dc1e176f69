"""A store in a bucket of any S3 server.

An upload's length and digest are not known to be right before its last byte, and S3 makes an object visible only
when it is completed. So a blob is streamed straight to its final key as a multipart upload, and the digest is checked
before the upload is completed; a wrong one aborts it. Neither a spool on disk nor a temporary key is needed. Only a
blob whose digest nobody knows beforehand has a temporary key, from which the server copies it.
What a killed process leaves is an unfinished upload: invisible, and removed by the server (MinIO: after a day;
elsewhere by a lifecycle rule for incomplete multipart uploads).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from minio.error import S3Error

from shared.contracts.manifest import Kind
from shared.errors import Conflict, CorruptFile, LlmosError, NotFound
from shared.storage.bucket import Bucket
from shared.storage.caches import Caches
from shared.storage.digest import verified
from shared.storage.layout import (
    BLOBS,
    MANIFESTS,
    SNAPSHOTS,
    blob_key,
    document_key,
    manifest_key,
    parse_blob_key,
    parse_manifest_key,
)
from shared.storage.pipe import VerifiedPipe
from shared.storage.port import CHUNK, Stored
from shared.storage.s3_errors import MINIO_ERRORS, s3_error
from shared.storage.threads import Workers, batches, finished

R = TypeVar("R")

_WORKERS = 16
_MAX_PARTS = 10_000
_PART = 16 << 20
"""Bytes of a part where the size is unknown: twice this is held in memory per upload. Ends at 156 GiB."""
_INCOMING = "incoming"
_ABANDONED = timedelta(days=1)
"""An object under a temporary key is removed after that: its process was killed between two requests."""


class S3Store:
    """`ArtifactStore` in a bucket, which is made when it is missing.

    Args:
        endpoint: `host:port`.
        bucket: Its name.
        access_key: None for anonymous access.
        secret_key: Belongs to `access_key`.
        secure: Whether to speak TLS.
        region: Looked up when None.
        cache_limit: Bytes that `fetch_blob` keeps in a cache folder; None for no limit.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        secure: bool = True,
        region: str | None = None,
        cache_limit: int | None = None,
    ) -> None:
        self._bucket = Bucket(
            endpoint,
            bucket,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region=region,
            connections=2 * _WORKERS,
        )
        self._caches = Caches(self._bucket.address, cache_limit, size=self.blob_size, read=self._read)
        self._workers = Workers(_WORKERS)
        # An upload keeps its thread as long as its client takes: a slow one must not keep others from reading.
        self._uploads = Workers(_WORKERS)

    async def blob_size(self, digest: str) -> int | None:
        """See `ArtifactStore`."""
        return await self._ask(f"looking for blob {digest}", partial(self._bucket.size, blob_key(digest)))

    async def put_blob(self, digest: str, chunks: AsyncIterator[bytes], *, size: int | None = None) -> int:
        """See `ArtifactStore`."""
        key, doing = blob_key(digest), f"storing blob {digest}"
        existing = await self._ask(doing, partial(self._bucket.size, key))
        if existing is not None and await self.holds_blob(digest):
            return existing
        pipe = VerifiedPipe(digest)
        await self._upload(key, pipe, chunks, doing, part=max(_PART, -(-(size or 0) // _MAX_PARTS)))
        return pipe.size

    async def holds_blob(self, digest: str) -> bool:
        """See `ArtifactStore`."""
        if await self.blob_size(digest) is None:
            return False
        try:
            async with aclosing(self.read_blob(digest)) as chunks:
                async for _ in chunks:
                    pass
        except CorruptFile:
            return False
        return True

    async def put_new(self, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        """See `ArtifactStore`."""
        key, doing, pipe = f"{_INCOMING}/{uuid4().hex}", "storing a new blob", VerifiedPipe(None)
        try:
            await self._upload(key, pipe, chunks, doing, part=_PART)
            await self._ask(doing, partial(self._bucket.copy, key, blob_key(pipe.digest)), workers=self._uploads)
        finally:
            await self._ask(doing, partial(self._bucket.delete, key))
        await self._ask("removing what killed uploads left", self._remove_abandoned)
        return pipe.digest, pipe.size

    def _remove_abandoned(self) -> None:
        for key, stored in self._bucket.list(_INCOMING).items():
            if datetime.now(UTC) - stored.modified > _ABANDONED:
                self._bucket.delete(key)

    async def _upload(
        self, key: str, pipe: VerifiedPipe, chunks: AsyncIterator[bytes], doing: str, *, part: int
    ) -> None:
        upload = asyncio.ensure_future(
            self._ask(doing, partial(self._bucket.upload, key, pipe, part), workers=self._uploads)
        )
        upload.add_done_callback(lambda _: pipe.reader_left())
        try:
            async with aclosing(batches(chunks, CHUNK)) as pieces:
                async for piece in pieces:
                    if not await pipe.write(piece):
                        break
            pipe.end()
            await asyncio.shield(upload)
        except BaseException as error:
            pipe.end(error if isinstance(error, Exception) else ConnectionAbortedError("upload cancelled"))
            await finished(upload)
            raise

    def read_blob(self, digest: str) -> AsyncGenerator[bytes, None]:
        """See `ArtifactStore`."""
        return verified(digest, self._read(digest))

    async def _read(self, digest: str) -> AsyncGenerator[bytes, None]:
        key, doing = blob_key(digest), f"reading blob {digest}"
        response = await self._ask(doing, partial(self._bucket.open, key))
        if response is None:
            raise NotFound(f"no blob {digest} in {self._bucket.address}; upload it first", param="digest")
        try:
            while data := await self._ask(doing, partial(response.read, CHUNK)):
                yield data
        finally:
            response.close()
            response.release_conn()

    async def fetch_blob(self, digest: str, cache: Path, *, fresh: bool = False) -> Path:
        """See `ArtifactStore`. The file stays in `cache` at least as long as this process lives."""
        return await self._caches.fetch(digest, cache, fresh=fresh)

    async def delete_blob(self, digest: str) -> None:
        """See `ArtifactStore`."""
        await self._ask(f"deleting blob {digest}", partial(self._bucket.delete, blob_key(digest)))

    async def blobs(self) -> list[str]:
        """See `ArtifactStore`."""
        return sorted(await self.blob_stats())

    async def blob_stats(self) -> dict[str, Stored]:
        """See `ArtifactStore`."""
        found = await self._ask("listing blobs", partial(self._bucket.list, BLOBS))
        return {digest: stored for key, stored in found.items() if (digest := parse_blob_key(key)) is not None}

    async def put_manifest(self, name: str, version: int, data: bytes, kind: Kind = Kind.MODEL) -> None:
        """See `ArtifactStore`."""
        key, doing = manifest_key(name, version, kind), f"writing the manifest of {kind} {name}:{version}"
        there = await self._ask(doing, partial(self._bucket.read, key))
        if there is None:
            await self._ask(doing, partial(self._bucket.write, key, data))
        elif there != data:
            raise Conflict(f"{kind} {name}:{version} has another manifest already; versions never change")

    async def get_manifest(self, name: str, version: int, kind: Kind = Kind.MODEL) -> bytes | None:
        """See `ArtifactStore`."""
        doing = f"reading the manifest of {kind} {name}:{version}"
        return await self._ask(doing, partial(self._bucket.read, manifest_key(name, version, kind)))

    async def delete_manifest(self, name: str, version: int, kind: Kind = Kind.MODEL) -> None:
        """See `ArtifactStore`."""
        doing = f"deleting the manifest of {kind} {name}:{version}"
        await self._ask(doing, partial(self._bucket.delete, manifest_key(name, version, kind)))

    async def manifests(self, kind: Kind = Kind.MODEL) -> list[tuple[str, int]]:
        """See `ArtifactStore`."""
        return sorted(await self.manifest_stats(kind))

    async def manifest_stats(self, kind: Kind = Kind.MODEL) -> dict[tuple[str, int], Stored]:
        """See `ArtifactStore`."""
        found = await self._ask(f"listing manifests of {kind}s", partial(self._bucket.list, MANIFESTS[kind]))
        return {one: stored for key, stored in found.items() if (one := parse_manifest_key(key, kind)) is not None}

    async def put_document(self, name: str, data: bytes) -> None:
        """See `ArtifactStore`."""
        await self._ask(f"writing {name}", partial(self._bucket.write, document_key(name), data))

    async def get_document(self, name: str) -> bytes | None:
        """See `ArtifactStore`."""
        return await self._ask(f"reading {name}", partial(self._bucket.read, document_key(name)))

    async def delete_document(self, name: str) -> None:
        """See `ArtifactStore`."""
        await self._ask(f"deleting {name}", partial(self._bucket.delete, document_key(name)))

    async def snapshots(self) -> dict[str, Stored]:
        """See `ArtifactStore`."""
        return await self._ask("listing snapshots", partial(self._bucket.list, SNAPSHOTS))

    async def ready(self) -> str | None:
        """See `ArtifactStore`: writes an object the first time, then only checks the bucket."""
        try:
            await self._ask("reaching the store", self._bucket.probe)
        except LlmosError as error:
            return error.message
        return None

    async def _ask(self, doing: str, call: Callable[[], R], *, workers: Workers | None = None) -> R:
        """Run `call` in a thread, after making sure of the bucket, and translate its errors."""

        def with_bucket() -> R:
            self._bucket.ensure()
            return call()

        try:
            return await (workers or self._workers).run(with_bucket)
        except MINIO_ERRORS as error:
            if isinstance(error, S3Error) and error.code == "NoSuchBucket":
                self._bucket.forget()
            raise s3_error(error, self._bucket.address, doing) from error
