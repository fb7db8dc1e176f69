"""What becomes of an S3 server's faults, told by a server that has them over real HTTP."""

import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared.errors import StorageFull, Unavailable
from shared.storage.open import open_store
from shared.storage.port import ArtifactStore
from tests.support.factories.blobs import content, sha256, stream
from tests.support.nats.server import free_port


class FaultyServer(ThreadingHTTPServer):
    """Has a bucket and no object; answers what asks for content with one fault."""

    daemon_threads = True
    status = 500
    content_type = "application/xml"
    body = b""
    promised = 0
    """Bytes announced above those that are sent."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._send(404 if self.path.count("/") > 1 else 200, b"", 0)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._fault()

    def do_GET(self) -> None:
        self._fault()

    def _fault(self) -> None:
        server = self.server
        assert isinstance(server, FaultyServer)
        self._send(server.status, server.body, server.promised)

    def _send(self, status: int, body: bytes, promised: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(body) + promised))
        self.end_headers()
        self.wfile.write(body)
        if promised:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def faulty() -> Iterator[FaultyServer]:
    with FaultyServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def store_at(server: FaultyServer) -> ArtifactStore:
    url = f"s3://models?endpoint=http://127.0.0.1:{server.server_port}&region=us-east-1"
    return open_store(url, access_key="key", secret_key="secret")


def xml(code: str, message: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (507, "XMinioStorageFull"),
        (507, "InsufficientStorage"),
        (507, "Unheard"),
        (400, "XMinioAdminBucketQuotaExceeded"),
    ],
)
async def test_a_full_server_is_storage_full(faulty, status, code):
    faulty.status, faulty.body = status, xml(code, "Storage backend has reached its minimum free drive threshold.")
    with pytest.raises(
        StorageFull, match=rf"storing blob .* found no room in S3 at .*/models \({code}: Storage backend"
    ):
        await store_at(faulty).put_blob(sha256(b"data"), stream(b"data"))


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
async def test_wrong_credentials_name_the_variables_to_check(faulty, code):
    faulty.status, faulty.body = 403, xml(code, "no")
    with pytest.raises(
        Unavailable, match=r"refuses the credentials .* check LLMOS_S3_ACCESS_KEY and LLMOS_S3_SECRET_KEY"
    ):
        await store_at(faulty).put_manifest("m", 1, b"{}")


async def test_a_server_that_fails_is_unavailable_with_its_words(faulty):
    faulty.status, faulty.body = 500, xml("InternalError", "disk on fire")
    with pytest.raises(Unavailable, match="answered InternalError: disk on fire"):
        await store_at(faulty).put_manifest("m", 1, b"{}")


async def test_something_else_on_the_port_is_said(faulty):
    faulty.status, faulty.body, faulty.content_type = 400, b"<html>hello</html>", "text/html"
    with pytest.raises(Unavailable, match="something else listens there"):
        await store_at(faulty).put_manifest("m", 1, b"{}")


async def test_a_blob_that_is_cut_on_its_way_is_an_error_not_a_short_blob(faulty):
    faulty.status, faulty.body, faulty.promised = 200, content(1000), 500
    with pytest.raises(Unavailable, match="reading blob"):
        async for _ in store_at(faulty).read_blob(sha256(b"whatever")):
            pass


async def test_an_unreachable_server_is_unavailable_and_not_ready():
    store = open_store(f"s3://models?endpoint=http://127.0.0.1:{free_port()}", access_key="key", secret_key="secret")
    assert "can't be reached" in (await store.ready() or "")
    with pytest.raises(Unavailable, match="Connection refused"):
        await store.blobs()


async def test_an_upload_to_an_unreachable_server_fails_without_reading_its_source_to_the_end():
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        while True:
            pieces += 1
            yield bytes(1 << 20)

    store = open_store(f"s3://models?endpoint=http://127.0.0.1:{free_port()}", access_key="key", secret_key="secret")
    with pytest.raises(Unavailable):
        await store.put_blob(sha256(b"x"), endless())
    assert pieces < 10
