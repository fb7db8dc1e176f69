"""Values of queries of the admin API."""

from collections.abc import Mapping

from shared.errors import InvalidInput

_MAX_S = 1e9


def limit(query: Mapping[str, str], *, most: int = 1000) -> int:
    """How many are asked for, 20 by default; raises `InvalidInput`."""
    given = query.get("limit", "20")
    if not given.isdecimal() or len(given) > len(str(most)) or not 1 <= int(given) <= most:
        raise InvalidInput(f"limit must be a number from 1 to {most}, not {given!r:.80}", param="limit")
    return int(given)


def seconds(query: Mapping[str, str], name: str) -> float | None:
    """Seconds, or None where none are given; raises `InvalidInput`."""
    if (text := query.get(name)) is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _MAX_S:
        raise InvalidInput(f"{name} must be a number of seconds, not {text!r:.80}", param=name)
    return value


def flag(query: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """True or false; raises `InvalidInput`."""
    text = query.get(name, "true" if default else "false")
    if text not in {"true", "false"}:
        raise InvalidInput(f"{name} must be true or false, not {text[:40]!r}", param=name)
    return text == "true"
