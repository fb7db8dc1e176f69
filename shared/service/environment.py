"""What a child process gets of its parent's environment: no secrets, unless it needs them."""

import re
from collections.abc import Mapping

_SECRET_WORDS = frozenset({"KEY", "KEYS", "SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "CREDENTIALS"})
_USER_IN_URL = re.compile(r"://[^/@\s]+@")


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds a secret, by a word of its name, or by a URL with a user in its value."""
    return not _SECRET_WORDS.isdisjoint(name.upper().split("_")) or _USER_IN_URL.search(value) is not None


def public(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables of LLMOS and without secrets: for what has no business with either."""
    return without_secrets({name: value for name, value in environment.items() if not name.startswith("LLMOS_")})


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that hold secrets."""
    return {name: value for name, value in environment.items() if not is_secret(name, value)}
