"""Anthropic's message, whole or as the events of a stream."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import orjson

from services.gateway.anthropic.requests import MessagesRequest
from services.gateway.dialects.thinking import Part, ThinkingSplitter
from services.gateway.dispatch.concurrent_generations import Completion, ConcurrentGenerations
from services.gateway.http.dialect import json_event
from shared.contracts.gateway import FinishReason, Frame, GeneratedToolCall, Usage

SIGNATURE = ""
"""Of a block of thoughts. Clients send it back; LLMOS takes thoughts with any."""


def message(head: dict[str, Any], completion: Completion, body: MessagesRequest) -> dict[str, Any]:
    """A whole message."""
    splitter = ThinkingSplitter(completion.prompt.thinking)
    parts = [*splitter.push(completion.text), *splitter.finish()]
    thought = "".join(part.text for part in parts if part.is_thought)
    text = "".join(part.text for part in parts if not part.is_thought)
    content: list[dict[str, Any]] = []
    if thought:
        shown = thought if body.shows_thoughts else ""
        content.append({"type": "thinking", "thinking": shown, "signature": SIGNATURE})
    if text:
        content.append({"type": "text", "text": text})
    content += [_call(call, orjson.Fragment(call.arguments)) for call in completion.tool_calls]
    reason = _stop_reason(completion.finish_reason, completion.stop_string, completion.usage, body)
    return {
        **head,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": completion.stop_string,
        "usage": _usage(completion.usage),
    }


async def events(
    generations: ConcurrentGenerations, head: dict[str, Any], body: MessagesRequest
) -> AsyncIterator[bytes]:
    """The events of a stream, but for an error."""
    prompt = generations.prompt(0)
    begun = {**head, "content": [], "stop_reason": None, "stop_sequence": None}
    usage = _usage(Usage(prompt_tokens=prompt.prompt_tokens, completion_tokens=0))
    yield _event("message_start", message={**begun, "usage": usage})
    yield _event("ping")
    blocks = _Blocks(ThinkingSplitter(prompt.thinking), shows_thoughts=body.shows_thoughts)
    async for _, frame in generations.frames():
        for event in blocks.add(frame):
            yield event
        if frame.finish_reason is not None:
            used = frame.usage or Usage(prompt_tokens=prompt.prompt_tokens, completion_tokens=0)
            reason = _stop_reason(frame.finish_reason, frame.stop_string, used, body)
            delta = {"stop_reason": reason, "stop_sequence": frame.stop_string}
            yield _event("message_delta", delta=delta, usage=_usage(used))
            yield _event("message_stop")


class _Blocks:
    """The content blocks of a stream: each begins, grows and stops before the next."""

    def __init__(self, splitter: ThinkingSplitter, *, shows_thoughts: bool) -> None:
        self._splitter = splitter
        self._shows_thoughts = shows_thoughts
        self._index = -1
        self._open = ""
        """The type of the block that has not stopped."""

    def add(self, frame: Frame) -> Iterator[bytes]:
        """What a frame adds."""
        yield from self._add_parts(self._splitter.push(frame.text))
        if frame.tool_calls or frame.finish_reason is not None:
            yield from self._add_parts(self._splitter.finish())
        for call in frame.tool_calls:
            yield from self._begin("tool_use", _call(call, orjson.Fragment("{}")))
            yield self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        if frame.finish_reason is not None:
            yield from self._stop()

    def _add_parts(self, parts: Iterable[Part]) -> Iterator[bytes]:
        for part in parts:
            kind = "thinking" if part.is_thought else "text"
            if self._open != kind:
                signature = {"signature": SIGNATURE} if part.is_thought else {}
                yield from self._begin(kind, {"type": kind, kind: "", **signature})
            if self._shows_thoughts or not part.is_thought:
                yield self._delta({"type": f"{kind}_delta", kind: part.text})

    def _begin(self, kind: str, block: dict[str, Any]) -> Iterator[bytes]:
        yield from self._stop()
        self._index, self._open = self._index + 1, kind
        yield _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _stop(self) -> Iterator[bytes]:
        if self._open == "thinking":
            yield self._delta({"type": "signature_delta", "signature": SIGNATURE})
        if self._open:
            yield _event("content_block_stop", index=self._index)
        self._open = ""


def _event(kind: str, **fields: object) -> bytes:
    return json_event({"type": kind, **fields}, kind)


def _call(call: GeneratedToolCall, arguments: orjson.Fragment) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _stop_reason(reason: FinishReason | None, stopped_by: str | None, usage: Usage, body: MessagesRequest) -> str:
    if reason is FinishReason.TOOL_CALLS:
        return "tool_use"
    if reason is FinishReason.LENGTH:
        return "max_tokens" if usage.completion_tokens >= body.max_tokens else "model_context_window_exceeded"
    return "end_turn" if stopped_by is None else "stop_sequence"


def _usage(usage: Usage) -> dict[str, int]:
    """`input_tokens` are those that were computed: Anthropic counts cached ones apart."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
