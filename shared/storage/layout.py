"""Names of objects, the same under a directory and in a bucket, and the check that keeps them inside it."""

import re

from shared.contracts.manifest import NAME_RULE, Kind, is_name
from shared.errors import InvalidInput

BLOBS = "blobs/sha256"
MANIFESTS = {Kind.MODEL: "manifests", Kind.DATASET: "datasets", Kind.REPORT: "reports"}
"""The folder of each kind's manifests."""

SYSTEM = "system.json"
"""Which system the store belongs to."""
SNAPSHOTS = "snapshots"
"""The folder of snapshots of control state."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_BLOB_KEY = re.compile(r"blobs/sha256/(?P<head>[0-9a-f]{2})/(?P<digest>[0-9a-f]{64})")
_DOCUMENT_KEY = re.compile(rf"{re.escape(SYSTEM)}|{SNAPSHOTS}/[0-9A-Za-z-]{{1,100}}\.json\.gz")
_MANIFEST_KEY = re.compile(r"(?P<folder>[a-z]+)/(?P<name>[^/]+)/(?P<version>[1-9][0-9]{0,8})\.json")


def blob_key(digest: str) -> str:
    """`blobs/sha256/<aa>/<digest>`; raises `InvalidInput` for anything but 64 lower-case hexadecimal digits."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(
            f"{digest[:80]!r} is not a digest; expected a SHA-256 in 64 lower-case hexadecimal digits", param="digest"
        )
    return f"{BLOBS}/{digest[:2]}/{digest}"


def manifest_key(name: str, version: int, kind: Kind = Kind.MODEL) -> str:
    """`manifests/<model>/<version>.json`, or `datasets/…`; raises `InvalidInput` for an impossible name or number."""
    if not is_name(name):
        raise InvalidInput(f"{name[:80]!r} is not a {kind} name; expected {NAME_RULE}", param=kind)
    if not 1 <= version <= 999_999_999:
        raise InvalidInput(f"{version} is not a version; they count from 1", param="version")
    return f"{MANIFESTS[kind]}/{name}/{version}.json"


def document_key(name: str) -> str:
    """`system.json` or `snapshots/<name>.json.gz`; raises `InvalidInput` for any other name."""
    if not _DOCUMENT_KEY.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} is not a document of a store; expected {SNAPSHOTS}/NAME.json.gz", param="name"
        )
    return name


def parse_blob_key(key: str) -> str | None:
    """The digest in a blob's key, or None for any other key."""
    match = _BLOB_KEY.fullmatch(key)
    return match["digest"] if match and match["digest"].startswith(match["head"]) else None


def parse_manifest_key(key: str, kind: Kind = Kind.MODEL) -> tuple[str, int] | None:
    """(name, version) in the key of a manifest of that kind, or None for any other key."""
    match = _MANIFEST_KEY.fullmatch(key)
    if match is None or match["folder"] != MANIFESTS[kind] or not is_name(match["name"]):
        return None
    return match["name"], int(match["version"])
