"""What each service's user may do in the store: its policy, put to a real S3 server that enforces it."""

import io
from collections.abc import Iterator

import pytest
from minio import Minio
from minio.error import S3Error

from deploy.init_store import ACCESS, policy
from tests.support.s3.server import S3Server

BUCKET = "llmos"
BLOB = "blobs/sha256/aa/" + "a" * 64
MANIFEST, DATASET, INCOMING, OTHER = "manifests/m/1.json", "datasets/d/1.json", "incoming/1", "other/file"
ALLOWED = {
    "registry": {
        "read": {BLOB, MANIFEST, DATASET},
        "write": {MANIFEST, DATASET, "probe"},
        "remove": {BLOB, MANIFEST, DATASET, "probe"},
    },
    "gateway": {"read": {BLOB, INCOMING}, "write": {BLOB, INCOMING}, "remove": {INCOMING}},
    "inference": {"read": {BLOB, MANIFEST, DATASET}, "write": set(), "remove": set()},
    "jobs": {"read": {BLOB, MANIFEST, DATASET}, "write": {BLOB}, "remove": {BLOB}},
}
OBJECTS = (BLOB, MANIFEST, DATASET, INCOMING, OTHER)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    running = S3Server()
    running.users = {user: (f"secret-of-{user}", policy(BUCKET, access)) for user, access in ACCESS.items()}
    with running:
        yield running


def client(server: S3Server, user: str | None = None) -> Minio:
    address = f"127.0.0.1:{server.port}"
    if user is None:
        return Minio(address, server.access_key, server.secret_key, secure=False)
    return Minio(address, user, f"secret-of-{user}", secure=False)


@pytest.fixture(autouse=True)
def _objects(server):
    root = client(server)
    if not root.bucket_exists(BUCKET):
        root.make_bucket(BUCKET)
    for name in OBJECTS:
        root.put_object(BUCKET, name, io.BytesIO(b"before"), 6)


def may(call, *arguments, **options) -> bool:
    """Whether the server allows it; any other refusal than this one fails the test."""
    try:
        call(*arguments, **options)
    except S3Error as error:
        if error.code != "AccessDenied":
            raise
        return False
    return True


def read(own: Minio, name: str) -> None:
    response = own.get_object(BUCKET, name)
    response.close()
    response.release_conn()


def test_every_user_is_tried():
    assert ALLOWED.keys() == ACCESS.keys()


@pytest.mark.parametrize("user", ACCESS)
def test_a_user_may_do_with_objects_what_its_service_does_and_nothing_else(server, user):
    own, allowed = client(server, user), ALLOWED[user]
    names = (*OBJECTS, "probe")
    assert {name for name in OBJECTS if may(read, own, name)} == allowed["read"]
    assert {name for name in names if may(own.put_object, BUCKET, name, io.BytesIO(b"after"), 5)} == allowed["write"]
    assert {name for name in names if may(own.remove_object, BUCKET, name)} == allowed["remove"]


@pytest.mark.parametrize("user", ACCESS)
def test_a_user_may_list_the_bucket_and_make_none(server, user):
    own = client(server, user)
    assert own.bucket_exists(BUCKET)
    assert {one.object_name for one in own.list_objects(BUCKET, recursive=True)} >= set(OBJECTS)
    assert not may(own.make_bucket, "another")
    with pytest.raises(S3Error, match="NoSuchKey"):
        own.get_object(BUCKET, BLOB[:-1] + "b")


def test_an_upload_of_unknown_length_is_within_the_gateways_policy(server):
    own = client(server, "gateway")
    own.put_object(BUCKET, INCOMING, io.BytesIO(b"x" * (6 << 20)), -1, part_size=5 << 20)
    assert own.stat_object(BUCKET, INCOMING).size == 6 << 20
