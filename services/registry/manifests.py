"""Manifests as bytes: the same manifest always gives the same ones, so their digest names it."""

import hashlib
from typing import TypeVar

from pydantic import ValidationError

from shared.contracts.manifest import FileList
from shared.errors import CorruptFile, InvalidInput

ManifestT = TypeVar("ManifestT", bound=FileList)


def encode_manifest(manifest: FileList) -> bytes:
    """The canonical bytes; raises `InvalidInput` for numbers that JSON does not have."""
    try:
        return manifest.canonical()
    except ValueError as error:
        raise InvalidInput(f"the manifest holds a number that is not finite ({error})", param="manifest") from error


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def decode_manifest(data: bytes, contract: type[ManifestT], *, digest: str, reference: str) -> ManifestT:
    """The manifest of `reference`; raises `CorruptFile` unless `data` hashes to `digest` and is a `contract`."""
    if digest_of(data) != digest:
        raise CorruptFile(f"the manifest of {reference} in the store was changed: it hashes to {digest_of(data)}")
    try:
        return contract.decode(data)
    except ValidationError as error:
        raise CorruptFile(f"the manifest of {reference} in the store can't be read: {error}") from error
