"""Parses an answer's text, piece by piece, into text and tool calls.

Text that may begin a call is held back until that is certain; arguments of a call are passed on piece by piece.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from services.inference.text.stop import StopMatcher
from services.inference.text.tools.json_value import JsonValue
from shared.contracts.gateway import ToolCallDelta
from shared.text.tool_form import ToolForm


class _State(Enum):
    TEXT = auto()
    HEAD = auto()
    """A call has begun; its name and the start of its arguments are not complete."""
    ARGUMENTS = auto()
    TAIL = auto()
    """Between a call's arguments and its closing text."""


@dataclass(slots=True)
class Parsed:
    """The text and the tool calls in a piece of an answer."""

    text: str = ""
    calls: list[ToolCallDelta] = field(default_factory=list)

    def add_arguments(self, index: int, arguments: str) -> None:
        """Add to a call, joined with the arguments added before."""
        if self.calls and self.calls[-1].index == index:
            arguments = self.calls[-1].arguments + arguments
            self.calls[-1] = self.calls[-1].model_copy(update={"arguments": arguments})
        else:
            self.calls.append(ToolCallDelta(index=index, arguments=arguments))


class ToolCallParser:
    """Parses one answer.

    Args:
        form: How the model writes calls.
        new_id: Makes n letters and digits of a call's id.
    """

    def __init__(self, form: ToolForm, new_id: Callable[[int], str]) -> None:
        self._form = form
        self._new_id = new_id
        self._head = re.compile(
            rf'[\s,;\[]*\{{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"{form.arguments}"\s*:\s*(?=\{{)', re.DOTALL
        )
        self._state = _State.TEXT
        self._matcher = StopMatcher((form.opening,) if form.opening else ())
        self._pending = ""
        """In TEXT, white space that may precede a call. In HEAD and TAIL, the text so far."""
        self._begun = False
        """Whether the answer has any text but white space."""
        self._value = JsonValue()
        self.calls = 0
        """Calls that have begun."""

    def push(self, text: str) -> Parsed:
        """Parse a piece of text."""
        parsed = Parsed()
        while text:
            text = self._step(text, parsed)
        return parsed

    def finish(self) -> Parsed:
        """The text that was held back, or the beginning of a call that was not completed."""
        parsed = Parsed()
        if self._state is _State.TEXT:
            self._release(self._matcher.finish(), parsed)
            if not self.calls:
                parsed.text += self._pending
        elif self._state is _State.HEAD and self._pending.strip(" \r\n\t,;]"):
            parsed.text = self._form.opening + self._pending
        self._pending = ""
        return parsed

    def _step(self, text: str, parsed: Parsed) -> str:
        """Parse the part of `text` that belongs to the state; returns the rest."""
        match self._state:
            case _State.TEXT:
                return self._step_text(text, parsed)
            case _State.HEAD:
                return self._step_head(text, parsed)
            case _State.ARGUMENTS:
                return self._step_arguments(text, parsed)
            case _State.TAIL:
                return self._step_tail(text)

    def _step_text(self, text: str, parsed: Parsed) -> str:
        if not self._form.opening:
            if not self._begun and (self._pending + text).lstrip().startswith("{"):
                self._state = _State.HEAD
                return text
            self._release(text, parsed)
            return ""
        for index, char in enumerate(text):
            released, found = self._matcher.push(char)
            self._release(released, parsed)
            if found:
                self._matcher = StopMatcher((self._form.opening,))
                self._state, self._pending = _State.HEAD, ""
                return text[index + 1 :]
        return ""

    def _release(self, text: str, parsed: Parsed) -> None:
        """Release text, except white space at its end: a call may follow."""
        self._pending += text
        visible = self._pending.rstrip()
        if visible:
            parsed.text += visible if self._begun or not self.calls else visible.lstrip()
            self._pending = self._pending[len(visible) :]
            self._begun = True

    def _step_head(self, text: str, parsed: Parsed) -> str:
        self._pending += text
        found = self._head.match(self._pending)
        if found is None:
            return ""
        rest, self._pending = self._pending[found.end() :], ""
        call_id = self._form.id_prefix + self._new_id(self._form.id_chars)
        parsed.calls.append(ToolCallDelta(index=self.calls, id=call_id, name=json.loads(found[1])))
        self.calls += 1
        self._state, self._value = _State.ARGUMENTS, JsonValue()
        return rest

    def _step_arguments(self, text: str, parsed: Parsed) -> str:
        size = self._value.push(text)
        parsed.add_arguments(self.calls - 1, text[:size])
        if self._value.complete:
            self._state = _State.TAIL
        return text[size:]

    def _step_tail(self, text: str) -> str:
        self._pending += text
        end = self._form.closing or "}"
        _, found, rest = self._pending.partition(end)
        if not found:
            return ""
        self._pending = ""
        if self._form.closing:
            self._state = _State.TEXT
        else:
            self._state = _State.HEAD
        return rest
