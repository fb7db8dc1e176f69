"""What one tenant may have stored."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Limits of one tenant."""

    count: int = 10_000
    """Responses and conversations."""
    bytes: int = 64 << 20
    """Of their contents."""
