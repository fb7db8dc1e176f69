"""Takes the thoughts at the beginning of an answer apart from its text, while it arrives. Pure."""

from collections.abc import Iterator
from typing import Literal

from shared.contracts.replica import Reasoning

OPENS, CLOSES = "<think>", "</think>"

Piece = tuple[Literal["reasoning", "text"], str]
"""What a piece of an answer is, and the piece."""


class ReasoningSplitter:
    """Takes the text of an answer in pieces, and gives back thoughts and text, never a part of a tag.

    White space around the thoughts, which belongs to the form that a template writes, is left out.

    Args:
        reasoning: Where the thoughts are, as the replica that renders the template says.
    """

    def __init__(self, reasoning: Reasoning) -> None:
        self._held = ""
        """Given, but not yet known to be thoughts, text or a tag."""
        self._state: Literal["start", "thoughts", "behind", "text"] = "text"
        self._begun = False
        """Whether thoughts were given back."""
        if reasoning is not Reasoning.NONE:
            self._state = "thoughts" if reasoning is Reasoning.OPEN else "start"

    @property
    def thinking(self) -> bool:
        """Whether the thoughts have begun and not ended."""
        return self._state == "thoughts"

    def feed(self, text: str) -> list[Piece]:
        """What the next piece of the answer adds."""
        if self._state == "text":
            return [("text", text)] if text else []
        self._held += text
        return list(self._released())

    def finish(self) -> list[Piece]:
        """What is left at the end of the answer."""
        held, self._held = self._held, ""
        if self._state == "thoughts":
            held = held.rstrip() if self._begun else held.strip()
            return [("reasoning", held)] if held else []
        if self._state == "behind":
            held = held.lstrip()
        return [("text", held)] if held else []

    def _released(self) -> Iterator[Piece]:
        if self._state == "start":
            begin = self._held.lstrip()
            if begin.startswith(OPENS):
                self._state, self._held = "thoughts", begin.removeprefix(OPENS)
            elif not OPENS.startswith(begin):
                self._state = "text"
        if self._state == "thoughts":
            yield from self._thoughts()
        if self._state == "behind" and (behind := self._held.lstrip()):
            self._state, self._held = "text", behind
        if self._state == "text" and self._held:
            yield "text", self._held
            self._held = ""

    def _thoughts(self) -> Iterator[Piece]:
        if not self._begun:
            self._held = self._held.lstrip()
        thoughts, closed, behind = self._held.partition(CLOSES)
        released = thoughts.rstrip() if closed else _without_tag(thoughts)
        if released:
            self._begun = True
            yield "reasoning", released
        if closed:
            self._state, self._held = "behind", behind
        else:
            self._held = thoughts[len(released) :]


def _without_tag(text: str) -> str:
    """A text without what may begin the closing tag at its end, and the white space before it."""
    for length in range(min(len(CLOSES) - 1, len(text)), 0, -1):
        if CLOSES.startswith(text[-length:]):
            text = text[:-length]
            break
    return text.rstrip()
