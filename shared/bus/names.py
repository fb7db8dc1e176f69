"""Subjects, keys and streams: how they are named, what is valid, and what matches."""

import re
from functools import lru_cache

from shared.errors import InvalidInput

LIVE_SUBJECT = "llmos.v1.kv"
"""The server publishes each change of a bucket on `llmos.v1.kv.<bucket>.<key>`, once it is stored."""
OBJECTS_STREAM = "LLMOS_OBJECTS"
OBJECTS_SUBJECT = "llmos.v1.objects"
"""Chunk `n` of a large payload is on `llmos.v1.objects.<sender>.<topic>.<id>.<n>`."""
REPLY_TOPIC = "reply"
"""The topic of payloads that answer requests."""

_PART = re.compile(r"[^\s.*>]+")
_KEY = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")
_BUCKET = re.compile(r"[-_a-zA-Z0-9]+")


@lru_cache(maxsize=4096)
def check_subject(subject: str, *, wildcards: bool = False) -> None:
    """Raise `InvalidInput` unless `subject` is a NATS subject (with `*` and a last `>` only if `wildcards`)."""
    parts = subject.split(".")
    for index, part in enumerate(parts):
        wild = part == "*" or (part == ">" and index == len(parts) - 1)
        if not _PART.fullmatch(part) and not (wildcards and wild):
            raise InvalidInput(f"{subject!r} is not a valid subject: part {index + 1} is {part!r}", param="subject")


def check_key(key: str) -> None:
    """Raise `InvalidInput` unless `key` can be the key of a bucket."""
    if not _KEY.fullmatch(key):
        raise InvalidInput(f"{key!r} is not a valid key: letters, digits and -/_=. are, no empty part", param="key")


def check_bucket(name: str) -> None:
    """Raise `InvalidInput` unless `name` can name a bucket, stream or durable consumer."""
    if not _BUCKET.fullmatch(name):
        raise InvalidInput(f"{name!r} is not a valid name: letters, digits, - and _ are", param="name")


def matches(pattern: str, subject: str) -> bool:
    """Whether a message on `subject` reaches a subscription on `pattern`."""
    if pattern == subject:
        return True
    expected, given = pattern.split("."), subject.split(".")
    for index, part in enumerate(expected):
        if part == ">":
            return len(given) > index
        if index >= len(given) or part not in ("*", given[index]):
            return False
    return len(expected) == len(given)


def bucket_stream(bucket: str) -> str:
    """The stream that holds a bucket."""
    return f"KV_{bucket}"


def topic(subject: str) -> str:
    """What a subject is about: `registry` in `llmos.v1.registry.list_models`; `other` outside `llmos.v1`."""
    parts = subject.split(".")
    return parts[2] if len(parts) > 3 and parts[:2] == ["llmos", "v1"] else "other"
