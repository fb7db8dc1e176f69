import pytest

from shared.errors import CorruptFile
from shared.storage.open import open_store
from tests.support.factories.blobs import sha256, stream
from tests.support.nats.server import free_port
from tests.support.s3.server import S3Server


async def test_a_real_server_refuses_wrong_credentials_clearly(s3_server: S3Server):
    for access, secret in ((s3_server.access_key, "wrong"), ("nobody", "wrong")):
        store = open_store(s3_server.url("credentials"), access_key=access, secret_key=secret)
        assert "check LLMOS_S3_ACCESS_KEY and LLMOS_S3_SECRET_KEY" in (await store.ready() or "")


async def test_a_damaged_blob_does_not_reach_the_cache(s3_server: S3Server, tmp_path):
    store = open_store(s3_server.url("damaged"), access_key=s3_server.access_key, secret_key=s3_server.secret_key)
    digest = sha256(b"good")
    await store.put_blob(digest, stream(b"good"))
    store._bucket.write(f"blobs/sha256/{digest[:2]}/{digest}", b"evil")
    with pytest.raises(CorruptFile, match="is not what it says"):
        await store.fetch_blob(digest, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "blobs").iterdir())


async def test_a_cached_blob_needs_no_server(s3_server: S3Server, tmp_path):
    live = open_store(s3_server.url("offline"), access_key=s3_server.access_key, secret_key=s3_server.secret_key)
    digest = sha256(b"data")
    await live.put_blob(digest, stream(b"data"))
    path = await live.fetch_blob(digest, tmp_path)
    dead = open_store(f"s3://offline?endpoint=http://127.0.0.1:{free_port()}", access_key="key", secret_key="secret")
    assert await dead.fetch_blob(digest, tmp_path) == path
