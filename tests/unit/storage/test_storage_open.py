import pytest

from shared.errors import InvalidInput
from shared.storage.directory import DirectoryStore
from shared.storage.open import open_store
from shared.storage.s3 import S3Store


async def test_a_file_url_is_a_directory_store_also_with_odd_characters(tmp_path):
    folder = tmp_path / "a b%ü"
    assert isinstance(open_store(folder.as_uri()), DirectoryStore)
    assert folder.is_dir()


@pytest.mark.parametrize(
    "url", ["s3://models?endpoint=http://127.0.0.1:9000", "s3://models?endpoint=https://s3.example.org&region=x"]
)
def test_an_s3_url_is_an_s3_store_and_asks_nobody_yet(url):
    assert isinstance(open_store(url, access_key="a", secret_key="b"), S3Store)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is not the URL of a store"),
        ("/var/models", "is not the URL of a store"),
        ("http://127.0.0.1:9000/models", "is not the URL of a store"),
        ("file://models", "full path"),
        ("file:models", "full path"),
        ("s3://", "is not the name of a bucket"),
        ("s3://Models", "is not the name of a bucket"),
        ("s3://models/folder", "is not the name of a bucket"),
        ("s3://models?endpoint=127.0.0.1:9000", "is not the address of an S3 server"),
        ("s3://models?endpoint=http://127.0.0.1:notaport", "is not the address of an S3 server"),
        ("s3://models?endpoint=http://127.0.0.1:9000/path", "is not the address of an S3 server"),
        ("s3://models?endpiont=http://127.0.0.1:9000", "no parameter 'endpiont'"),
    ],
)
def test_a_wrong_url_is_explained(url, problem):
    with pytest.raises(InvalidInput, match=f"{problem}.*expected file:///a/folder or s3://bucket"):
        open_store(url)


def test_an_access_key_needs_its_secret():
    with pytest.raises(InvalidInput, match="LLMOS_S3_SECRET_KEY"):
        open_store("s3://models?endpoint=http://127.0.0.1:9000", access_key="a")
