"""Parses an answer's text, piece by piece, into text and tool calls.

Text that may begin a call is held back until that is certain. A call is passed on when it is whole, so a call that is
never completed is neither text nor a call.
"""

import json
import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Literal

from services.inference.text.stop import StopMatcher
from services.inference.text.tools.json_value import JsonValue
from shared.contracts.gateway import GeneratedToolCall
from shared.text.tool_form import CALL_BEGIN, ToolForm

_SPACE = " \r\n\t"
_BETWEEN = _SPACE + ",;[]"
"""Around the calls of a list."""
_MAX_SPACE = 32
"""White space that is held back because a call may follow; more of it is text."""

Piece = str | GeneratedToolCall
"""Text, or a whole call."""


class _State(Enum):
    TEXT = auto()
    CALL = auto()
    """A call has begun; it is not complete."""
    TAIL = auto()
    """Between a call and its closing text."""


class ToolCallParser:
    """Parses one answer, which a grammar of `services.inference.text.tools.grammar` allows.

    Args:
        form: How the model writes calls.
        new_id: Makes n letters and digits of a call's id.
        text: The text that an answer may have: `beside` calls, as far as the form allows it, `instead` of them, or
            `never`.
    """

    def __init__(
        self,
        form: ToolForm,
        new_id: Callable[[int], str],
        *,
        text: Literal["beside", "instead", "never"] = "beside",
    ) -> None:
        self._form = form
        self._new_id = new_id
        self._has_text = text != "never"
        self._either = text == "instead" or not form.opening
        self._head = re.compile(
            rf'\{{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"{form.arguments}"\s*:\s*(?=\{{)', re.DOTALL
        )
        self._state = _State.TEXT
        self._opening = form.opening or CALL_BEGIN
        self._matcher = StopMatcher((self._opening,))
        self._space = ""
        """White space at the end of the text, which may precede a call."""
        self._begun = False
        """Whether the answer has any text but white space."""
        self._value: JsonValue | None = None
        self._call: list[str] = []
        """The JSON of a call so far."""
        self._tail = ""
        self.calls = 0
        """Whole calls."""

    def is_text(self, piece: str) -> bool:
        """Whether `piece` is text if it comes next; where it may be the beginning of a call instead, it is not."""
        if self._state is not _State.TEXT or not self._has_text:
            return False
        begin = (self._matcher.held + piece).lstrip(_SPACE)
        return self._begun or not self._either or not self._opening.startswith(begin)

    def push(self, text: str) -> list[Piece]:
        """Parse a piece of the answer; returns what is certain now, in order."""
        pieces: list[Piece] = []
        while text:
            text = self._step(text, pieces)
        return pieces

    def finish(self, *, cut: bool) -> list[Piece]:
        """The text that was held back.

        Args:
            cut: Whether the answer might have gone on: then text that may be the beginning of a call is left out.
        """
        pieces: list[Piece] = []
        if self._state is _State.TEXT:
            held = self._matcher.finish()
            self._release("" if cut else held, pieces)
            if not self.calls and self._space:
                pieces.append(self._space)
        self._space = ""
        return pieces

    def _step(self, text: str, pieces: list[Piece]) -> str:
        """Parse the part of `text` that belongs to the state; returns the rest."""
        match self._state:
            case _State.TEXT:
                return self._step_text(text, pieces)
            case _State.CALL:
                return self._step_call(text, pieces)
            case _State.TAIL:
                return self._step_tail(text)

    def _step_text(self, text: str, pieces: list[Piece]) -> str:
        for index, char in enumerate(text):
            if self._either and self._begun:
                pieces.append(self._space + self._matcher.finish() + text[index:])
                self._space = ""
                return ""
            released, found = self._matcher.push(char)
            self._release(released, pieces)
            if found:
                self._state, self._space = _State.CALL, ""
                rest = text[index + 1 :]
                return rest if self._form.opening else CALL_BEGIN + rest
        return ""

    def _release(self, text: str, pieces: list[Piece]) -> None:
        """Release text, except white space at its end: a call may follow."""
        self._space += text
        visible = self._space.rstrip(_SPACE)
        if len(self._space) - len(visible) > _MAX_SPACE:
            visible = self._space
        self._space = self._space[len(visible) :]
        if self.calls and not self._begun:
            visible = visible.lstrip(_SPACE)
        if visible:
            pieces.append(visible)
            self._begun = True

    def _step_call(self, text: str, pieces: list[Piece]) -> str:
        if self._value is None:
            text = text.lstrip(_BETWEEN)
            if not text:
                return ""
            self._value = JsonValue()
        size = self._value.push(text)
        self._call.append(text[:size])
        if self._value.complete:
            self._complete("".join(self._call), pieces)
            self._value, self._call = None, []
            self._state = _State.TAIL if self._form.closing else _State.CALL
        return text[size:]

    def _complete(self, body: str, pieces: list[Piece]) -> None:
        head = self._head.match(body)
        if head is None:
            return
        call_id = self._form.id_prefix + self._new_id(self._form.id_chars)
        arguments = body[head.end() : -1].rstrip(_SPACE)
        pieces.append(GeneratedToolCall(index=self.calls, id=call_id, name=json.loads(head[1]), arguments=arguments))
        self.calls += 1

    def _step_tail(self, text: str) -> str:
        _, found, rest = (self._tail + text).partition(self._form.closing)
        if not found:
            self._tail += text
            return ""
        self._state, self._tail = _State.TEXT, ""
        self._matcher = StopMatcher((self._opening,))
        return rest
