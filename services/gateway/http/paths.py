"""Paths whose parts may have an encoded slash.

The server decodes a whole path before it is routed. So `deployments/..%2Fmodels%2Fx` would have four parts, and
`models/x%2Faliases%2Fprod` would be the alias's route. Here `%2F` and `%25` stay encoded until a path is matched.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

_STAYS_ENCODED = re.compile("%(2[Ff]|25)")


def routed_path(scope: Mapping[str, Any]) -> str:
    """The path of a request as it is matched and logged: decoded, apart from `%2F` and `%25`."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%" not in raw:
        path: str = scope["path"]
        return path
    return unquote(_STAYS_ENCODED.sub(r"%25\1", raw.decode("latin-1")))


def part(text: str) -> str:
    """A part of a matched path, wholly decoded."""
    return _STAYS_ENCODED.sub(lambda match: "%" if match[1] == "25" else "/", text)
