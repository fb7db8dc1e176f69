"""Ids of tool calls."""

import secrets
import string

_CHARS = string.ascii_letters + string.digits


def random_id(length: int) -> str:
    """Random letters and digits."""
    return "".join(secrets.choice(_CHARS) for _ in range(length))
