"""Subjects and keys: what is valid, and what matches."""

import re
from functools import lru_cache

from shared.errors import InvalidInput

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
