"""Make the bucket, and in MinIO a user for each service with a policy of its own. Runs once, in the registry's image.

`python init_store.py` as MinIO's root, with LLMOS_STORE_URL, LLMOS_S3_ACCESS_KEY, LLMOS_S3_SECRET_KEY, and
S3_SECRET_<SERVICE> for each user. A user's access key is the service's name. Run again, it gives the users these
secrets and policies, whatever they had.

Exit code 0: all is there. 1: it could not be made within a minute; the last line says why.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin
from urllib3.exceptions import HTTPError

from shared.storage.layout import BLOBS, MANIFESTS, SNAPSHOTS
from shared.storage.open import open_store

TIMEOUT_S = 60.0
PAUSE_S = 0.5

_READ = ("GetObject",)
_WRITE = ("GetObject", "PutObject", "AbortMultipartUpload", "ListMultipartUploadParts")
_BLOBS = f"{BLOBS}/*"
_RECORDS = tuple(f"{folder}/*" for folder in MANIFESTS.values())

ACCESS: dict[str, dict[str, tuple[str, ...]]] = {
    # Writes and removes manifests and snapshots of control state; removes blobs that no version has. `probe` is how
    # it sees that it can write.
    "registry": {
        **dict.fromkeys((*_RECORDS, f"{SNAPSHOTS}/*", "system.json", "probe"), (*_WRITE, "DeleteObject")),
        _BLOBS: ("GetObject", "DeleteObject"),
    },
    # Takes uploads and gives files; what is uploaded without a digest is `incoming` first.
    "gateway": {_BLOBS: _WRITE, "incoming/*": (*_WRITE, "DeleteObject")},
    # A node loads versions.
    "inference": dict.fromkeys((_BLOBS, *_RECORDS), _READ),
    # A job reads versions, stores what it made, and removes its own checkpoints.
    "jobs": {**dict.fromkeys(_RECORDS, _READ), _BLOBS: (*_WRITE, "DeleteObject")},
}
"""What each user may do with objects, by the pattern of their keys. All may list the bucket."""


def policy(bucket: str, access: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """A policy in the language of AWS's IAM, as MinIO takes it."""
    lists = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
    whole = {"Effect": "Allow", "Action": lists, "Resource": [f"arn:aws:s3:::{bucket}"]}
    objects = [
        {
            "Effect": "Allow",
            "Action": [f"s3:{action}" for action in actions],
            "Resource": [f"arn:aws:s3:::{bucket}/{pattern}"],
        }
        for pattern, actions in access.items()
    ]
    return {"Version": "2012-10-17", "Statement": [whole, *objects]}


async def make_bucket(environment: Mapping[str, str]) -> str | None:
    """Why there is no bucket after `TIMEOUT_S`, or None."""
    store = open_store(
        environment["LLMOS_STORE_URL"],
        access_key=environment["LLMOS_S3_ACCESS_KEY"],
        secret_key=environment["LLMOS_S3_SECRET_KEY"],
    )
    deadline = time.monotonic() + TIMEOUT_S
    while (problem := await store.ready()) is not None and time.monotonic() < deadline:  # noqa: ASYNC110  # a store has no event for it
        await asyncio.sleep(PAUSE_S)
    return problem


def make_users(environment: Mapping[str, str]) -> str | None:
    """Make users and policies; why they could not be made, or None."""
    url = urlsplit(environment["LLMOS_STORE_URL"])
    endpoint = urlsplit(parse_qs(url.query)["endpoint"][0])
    root = StaticProvider(environment["LLMOS_S3_ACCESS_KEY"], environment["LLMOS_S3_SECRET_KEY"])
    admin = MinioAdmin(endpoint=endpoint.netloc, credentials=root, secure=endpoint.scheme == "https")
    for user, access in ACCESS.items():
        name = f"llmos-{user}"
        try:
            admin.policy_add(name, policy=policy(url.netloc, access))
            admin.user_add(user, environment[f"S3_SECRET_{user.upper()}"])
            admin.policy_set(name, user=user)
        except (MinioAdminException, HTTPError) as error:
            return f"user {user} could not be made: {error}; does MinIO's admin API answer at {endpoint.netloc}?"
    return None


def main() -> int:
    """Make all of it."""
    if (problem := asyncio.run(make_bucket(os.environ))) is not None:
        sys.exit(f"the bucket can't be used: {problem}")
    if (problem := make_users(os.environ)) is not None:
        sys.exit(problem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
