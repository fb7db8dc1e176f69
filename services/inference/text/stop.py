"""Stop strings across token borders."""

from collections.abc import Sequence


class StopMatcher:
    """Releases text as early as possible, and ends it before a stop string, or after it.

    The stop string whose last character comes first ends the text (the longest, if several end there), so the outcome
    does not depend on how the text was cut into pieces. Text that could still become a stop string is held back.

    One Knuth-Morris-Pratt automaton per stop string: its state is the length of its longest prefix that the text ends
    with.

    Args:
        stops: The strings.
        include: Whether the one that ends the text is part of it.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._include = include
        self._stops = tuple(dict.fromkeys(stops))
        self._failures = [_failure(stop) for stop in self._stops]
        self._states = [0] * len(self._stops)
        self._pending = ""
        self.found: str | None = None
        """The stop string that ended the text."""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that is safe to release, and whether a stop string ended it. Push nothing after that."""
        if not self._stops:
            return text, False
        before = len(self._pending)
        self._pending += text
        for position, char in enumerate(text, start=before + 1):
            matched = self._advance(char)
            if matched:
                self.found = self._pending[position - matched : position]
                end = position if self._include else position - matched
                released, self._pending = self._pending[:end], ""
                return released, True
        keep = len(self._pending) - max(self._states)
        released, self._pending = self._pending[:keep], self._pending[keep:]
        return released, False

    @property
    def held(self) -> str:
        """The text that is held back."""
        return self._pending

    def finish(self) -> str:
        """The text that was held back, when the answer ended without a stop string."""
        released, self._pending = self._pending, ""
        return released

    def _advance(self, char: str) -> int:
        """Move all automata by one character; the length of the longest stop string that ends here, or 0."""
        matched = 0
        for index, stop in enumerate(self._stops):
            state = self._states[index]
            while state and stop[state] != char:
                state = self._failures[index][state - 1]
            if stop[state] == char:
                state += 1
            if state == len(stop):
                matched = max(matched, state)
                state = 0  # nothing is pushed after a match
            self._states[index] = state
        return matched


def _failure(stop: str) -> list[int]:
    """For each prefix of `stop`, the length of its longest proper prefix that is also its suffix."""
    failure = [0] * len(stop)
    length = 0
    for index in range(1, len(stop)):
        while length and stop[index] != stop[length]:
            length = failure[length - 1]
        if stop[index] == stop[length]:
            length += 1
        failure[index] = length
    return failure
