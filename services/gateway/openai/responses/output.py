"""The output of a response while it is generated: frames become items, and events that say how they grow. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from services.gateway.dialects.thinking import Part, ThinkingSplitter
from services.gateway.openai.logprobs import chat_logprobs
from services.gateway.openai.responses.ids import ItemIds
from services.gateway.openai.responses.resource import Resource, usage_object
from shared.contracts.gateway import FinishReason, Frame, GeneratedToolCall, TokenLogprob, Usage
from shared.contracts.replica import Thinking
from shared.contracts.response import ResponseStatus

Event = tuple[str, dict[str, Any]]
"""The type of an event and its fields. Those that are objects change later: write the event at once."""


class ResponseOutput:
    """Makes the items of one response.

    Args:
        resource: The response object, whose output it is.
        ids: Of its items.
        thinking: Whether the answer begins with thoughts.
        logprobs: Whether text has log probabilities.
    """

    def __init__(self, resource: Resource, ids: ItemIds, thinking: Thinking, *, logprobs: bool) -> None:
        self._resource = resource
        self._items: list[dict[str, Any]] = resource["output"]
        self._ids = ids
        self._splitter = ThinkingSplitter(thinking)
        self._thinks = thinking == "open"
        """Whether the last text was a thought."""
        self._logprobs = logprobs
        self._reasoning_tokens = 0
        self._open: dict[str, Any] | None = None
        """The item that grows: a message, or thoughts."""
        self._place: dict[str, Any] = {}
        """Where it is: fields of its events."""
        self._scores: list[dict[str, Any]] = []
        """Log probabilities that belong to the next text."""

    def add(self, frame: Frame) -> Iterator[Event]:
        """What a frame adds."""
        parts = self._splitter.push(frame.text)
        if parts[0].is_thought if parts else self._thinks:  # thoughts come first
            self._reasoning_tokens += len(frame.token_ids)
        elif self._logprobs:
            self._scores += _scores(frame.logprobs or ())
        if parts:
            self._thinks = parts[-1].is_thought
            yield from self._grow(parts)
        for call in frame.tool_calls:
            yield from self._call(call)

    def end(self, reason: FinishReason, usage: Usage, completed: int) -> Iterator[Event]:
        """The answer is complete, or was cut; `completed` is Unix time in seconds."""
        yield from self._grow(self._splitter.finish())
        cut = reason is FinishReason.LENGTH
        if not self._items:
            yield from self._begin("message")
        yield from self._close("incomplete" if cut else "completed")
        self._resource["usage"] = usage_object(usage, self._reasoning_tokens)
        if cut:
            details = {"reason": "max_output_tokens"}
            self._resource.update(status=ResponseStatus.INCOMPLETE, incomplete_details=details)
        else:
            self._resource.update(status=ResponseStatus.COMPLETED, completed_at=completed)

    def _grow(self, parts: Sequence[Part]) -> Iterator[Event]:
        for text, is_thought in parts:
            kind = "reasoning" if is_thought else "message"
            if self._open is None or self._open["type"] != kind:
                yield from self._close("completed")
                yield from self._begin(kind)
            assert self._open is not None
            part = self._open["content"][0]
            part["text"] += text
            if kind == "message":
                scores, self._scores = self._scores, []
                part["logprobs"] += scores
                yield "response.output_text.delta", {**self._place, "delta": text, "logprobs": scores}
            else:
                yield "response.reasoning_text.delta", {**self._place, "delta": text}

    def _begin(self, kind: str) -> Iterator[Event]:
        item: dict[str, Any] = {"id": self._ids.new(kind), "type": kind, "status": "in_progress", "content": []}
        if kind == "message":
            item["role"] = "assistant"
        else:
            item["summary"] = []
        self._items.append(item)
        yield "response.output_item.added", {"output_index": len(self._items) - 1, "item": item}
        part: dict[str, Any] = {"type": "reasoning_text", "text": ""}
        if kind == "message":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._open = item
        self._place = {"item_id": item["id"], "output_index": len(self._items) - 1, "content_index": 0}
        yield "response.content_part.added", {**self._place, "part": part}
        item["content"].append(part)

    def _close(self, status: str) -> Iterator[Event]:
        """The item that grows is complete, or the answer ends in it."""
        if (item := self._open) is None:
            return
        part = item["content"][0]
        if item["type"] == "message":
            part["logprobs"] += self._scores
            self._scores = []
            done = {**self._place, "text": part["text"], "logprobs": part["logprobs"]}
            yield "response.output_text.done", done
        else:
            yield "response.reasoning_text.done", {**self._place, "text": part["text"]}
        yield "response.content_part.done", {**self._place, "part": part}
        item["status"] = status
        yield "response.output_item.done", {"output_index": len(self._items) - 1, "item": item}
        self._open = None

    def _call(self, call: GeneratedToolCall) -> Iterator[Event]:
        """A call, which comes whole."""
        yield from self._close("completed")
        self._scores = []  # tokens of a call have none
        item = {
            "id": self._ids.new("function_call"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
        }
        self._items.append(item)
        place = {"item_id": item["id"], "output_index": len(self._items) - 1}
        yield "response.output_item.added", {"output_index": place["output_index"], "item": item}
        yield "response.function_call_arguments.delta", {**place, "delta": call.arguments}
        yield "response.function_call_arguments.done", {**place, "arguments": call.arguments}
        item |= {"arguments": call.arguments, "status": "completed"}
        yield "response.output_item.done", {"output_index": place["output_index"], "item": item}


def _scores(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = chat_logprobs(tokens, as_ids=False)["content"]
    return content
