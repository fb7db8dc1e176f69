"""One bucket, with the few blocking calls that a store needs. They raise what the client raises."""

import io
from typing import BinaryIO, cast

from minio import Minio
from minio.commonconfig import CopySource
from minio.error import S3Error
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout

from shared.storage.pipe import VerifiedPipe
from shared.storage.port import Stored
from shared.storage.s3_errors import is_missing

_CONNECT_TIMEOUT = 5
_READ_TIMEOUT = 60
_RETRIES = 3
"""Of a request that failed on its way or with a 5xx; 1.4 s in all."""


class Bucket:
    """A bucket, made by the first call when it is missing. Calls may come from several threads.

    Args:
        endpoint: `host:port`.
        name: Of the bucket.
        access_key: None for anonymous access.
        secret_key: Belongs to `access_key`.
        secure: Whether to speak TLS.
        region: Looked up when None.
        connections: Open at most.
    """

    def __init__(
        self,
        endpoint: str,
        name: str,
        *,
        access_key: str | None,
        secret_key: str | None,
        secure: bool,
        region: str | None,
        connections: int,
    ) -> None:
        self.address = f"{endpoint}/{name}"
        self._name = name
        self._exists = False
        self._written = False
        retries = Retry(
            total=_RETRIES, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504], raise_on_status=False
        )
        timeout = Timeout(connect=_CONNECT_TIMEOUT, read=_READ_TIMEOUT)
        http = PoolManager(maxsize=connections, timeout=timeout, retries=retries)
        self._client = Minio(endpoint, access_key, secret_key or "", secure=secure, region=region, http_client=http)

    def ensure(self) -> None:
        """Make the bucket unless it was seen before."""
        if self._exists:
            return
        if not self._client.bucket_exists(self._name):
            try:
                self._client.make_bucket(self._name)
            except S3Error as error:
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise
        self._exists = True

    def forget(self) -> None:
        """The bucket was removed: make it again on the next call."""
        self._exists = False

    def probe(self) -> None:
        """See that the bucket can be written to: by writing, the first time, and by asking for it from then on."""
        if not self._written:
            self.write("probe", b"\0")
            self.delete("probe")
            self._written = True
        elif not self._client.bucket_exists(self._name):
            self.forget()
            self.ensure()

    def size(self, key: str) -> int | None:
        """Bytes of an object, or None."""
        try:
            return self._client.stat_object(self._name, key).size
        except S3Error as error:
            if is_missing(error):
                return None
            raise

    def upload(self, key: str, pipe: VerifiedPipe, part: int) -> None:
        """Write an object of unknown length in parts of `part` bytes; none is there if `pipe` raises."""
        data = cast("BinaryIO", pipe)  # the client calls nothing but `read`
        self._client.put_object(self._name, key, data, -1, part_size=part, num_parallel_uploads=1)

    def copy(self, source: str, key: str) -> None:
        """Copy an object within the bucket; the server does it."""
        self._client.copy_object(self._name, key, CopySource(self._name, source))

    def write(self, key: str, data: bytes) -> None:
        """Write a small object."""
        self._client.put_object(self._name, key, io.BytesIO(data), len(data))

    def open(self, key: str) -> BaseHTTPResponse | None:
        """An object to read from, or None; to be closed and its connection released."""
        try:
            return self._client.get_object(self._name, key)
        except S3Error as error:
            if is_missing(error):
                return None
            raise

    def read(self, key: str) -> bytes | None:
        """A small object, or None."""
        response = self.open(key)
        if response is None:
            return None
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        self._client.remove_object(self._name, key)

    def list(self, folder: str) -> dict[str, Stored]:
        """All objects under `folder`, by key."""
        found = {}
        for entry in self._client.list_objects(self._name, prefix=folder + "/", recursive=True):
            if entry.object_name and entry.last_modified and entry.size is not None:
                found[entry.object_name] = Stored(size=entry.size, modified=entry.last_modified)
        return found
