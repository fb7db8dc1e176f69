"""How long work says how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called with the name of a step and how much of it is done, 0 to 1."""

    def __call__(self, step: str, done: float, total: int = 0, /) -> None:
        """`total` are the bytes of the whole step; 0 if it is not measured in bytes."""
        ...


def no_progress(_step: str, _done: float, _total: int = 0, /) -> None:
    """For a caller that does not want to know."""
