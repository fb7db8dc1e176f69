"""How long work says how far it is."""

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with the name of a step and how much of it is done, 0 to 1."""


def no_progress(_step: str, _done: float) -> None:
    """For a caller that does not want to know."""
