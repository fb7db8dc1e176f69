"""Numbers of bytes as people write them."""

import re

MAX_SIZE = 1 << 60
"""Bytes: an EiB."""
_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def parse_size(text: str) -> int:
    """Bytes of `512MiB`, `1.5 GiB` or `0`; raises `ValueError` with what is wrong."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a size; expected for example 512MiB, 2GiB or 0")
    size = float(match[1]) * _UNITS[match[2]]
    if size > MAX_SIZE:
        raise ValueError(f"{text[:40]!r} is larger than any memory")
    return int(size)
