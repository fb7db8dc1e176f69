"""Separates the thoughts at the beginning of an answer from its text, piece by piece.

The white space around the tags belongs to neither.
"""

from enum import Enum, auto
from typing import NamedTuple

from shared.contracts.replica import Thinking
from shared.text.thinking import THINK, THINK_END


class Part(NamedTuple):
    """A piece of an answer; never empty."""

    text: str
    is_thought: bool


class _State(Enum):
    BEGIN = auto()
    """Only white space and the beginning of the opening tag have come."""
    THOUGHT = auto()
    BETWEEN = auto()
    """After the closing tag, before the first character of the text."""
    TEXT = auto()


class ThinkingSplitter:
    """Splits one answer.

    Args:
        thinking: Whether it begins with thoughts, as the replica says.
    """

    def __init__(self, thinking: Thinking) -> None:
        states = {"none": _State.TEXT, "may": _State.BEGIN, "open": _State.THOUGHT}
        self._state = states[thinking]
        self._held = ""
        """What may be part of a tag, or white space before one."""
        self._thought = False
        """Whether a thought has begun: white space before its first character is left out."""

    def push(self, text: str) -> list[Part]:
        """The parts that are certain now, in order."""
        if self._state is _State.TEXT:  # nearly every piece of an answer
            return [Part(text, is_thought=False)] if text else []
        parts: list[Part] = []
        rest: str | None = text
        while rest is not None:
            rest = self._step(rest, parts)
        return [part for part in parts if part.text]

    def finish(self) -> list[Part]:
        """What was held back, when the answer has ended."""
        held, self._held = self._held, ""
        if self._state is _State.THOUGHT:
            held = held.rstrip() if self._thought else held.strip()
        return [Part(held, self._state is _State.THOUGHT)] if held else []

    def _step(self, text: str, parts: list[Part]) -> str | None:
        """Take `text`; returns the rest of it that belongs to the next state."""
        match self._state:
            case _State.BEGIN:
                return self._begin(text, parts)
            case _State.THOUGHT:
                return self._think(text, parts)
            case _State.BETWEEN:
                text = text.lstrip()
                if text:
                    self._state = _State.TEXT
                    parts.append(Part(text, is_thought=False))
            case _State.TEXT:
                parts.append(Part(text, is_thought=False))
        return None

    def _begin(self, text: str, parts: list[Part]) -> str | None:
        self._held += text
        begin = self._held.lstrip()
        if begin.startswith(THINK):
            self._state, self._held = _State.THOUGHT, ""
            return begin.removeprefix(THINK)
        if not THINK.startswith(begin):
            self._state = _State.TEXT
            parts.append(Part(self._held, is_thought=False))
            self._held = ""
        return None

    def _think(self, text: str, parts: list[Part]) -> str | None:
        self._held += text
        thought, found, rest = self._held.partition(THINK_END)
        if not found:
            size = next(n for n in range(len(THINK_END) - 1, -1, -1) if thought.endswith(THINK_END[:n]))
            thought = thought[: len(thought) - size]
        thought = thought.rstrip()
        self._held = "" if found else self._held[len(thought) :]
        if not self._thought:
            thought = thought.lstrip()
        self._thought = self._thought or bool(thought)
        parts.append(Part(thought, is_thought=True))
        if not found:
            return None
        self._state = _State.BETWEEN
        return rest
