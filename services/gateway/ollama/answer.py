"""Ollama's answers: one object, or an object a line."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from services.gateway.dialects.thinking import Part, ThinkingSplitter
from services.gateway.dispatch.concurrent_generations import Completion, ConcurrentGenerations
from services.gateway.ollama.dialect import line
from shared.contracts.gateway import (
    FinishReason,
    GeneratedToolCall,
    ScoredToken,
    Timings,
    TokenLogprob,
    Usage,
)

_NS = 1_000_000_000


class OllamaResult:
    """One answer of `/api/chat` or `/api/generate`.

    Args:
        model: As the client named it.
        chat: Whether it is a chat's.
        now: Unix time in seconds.
        monotonic: Seconds on the monotonic clock, for the duration.
    """

    def __init__(self, model: str, *, chat: bool, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._model = model
        self._chat = chat
        self._now = now
        self._monotonic = monotonic
        self._began = monotonic()

    def loaded(self, *, unloads: bool) -> dict[str, Any]:
        """What a request without a prompt gets: the model is there."""
        return {**self._piece(), "done": True, "done_reason": "unload" if unloads else "load"}

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer as one object."""
        splitter = ThinkingSplitter(completion.prompt.thinking)
        parts = [*splitter.push(completion.text), *splitter.finish()]
        piece = self._piece(parts, completion.tool_calls, completion.logprobs)
        return piece | self._end(completion.finish_reason, completion.usage, completion.timings)

    async def lines(self, generations: ConcurrentGenerations) -> AsyncIterator[bytes]:
        """The lines of a stream, but for an error."""
        prompt = generations.prompt(0)
        splitter = ThinkingSplitter(prompt.thinking)
        async for _, frame in generations.frames():
            parts = splitter.push(frame.text)
            if frame.tool_calls or frame.finish_reason is not None:
                parts += splitter.finish()
            if parts or frame.tool_calls or frame.logprobs:
                yield line(self._piece(parts, frame.tool_calls, frame.logprobs or ()) | {"done": False})
            if frame.finish_reason is not None:
                usage = frame.usage or Usage(prompt_tokens=prompt.prompt_tokens, completion_tokens=0)
                yield line(self._piece() | self._end(frame.finish_reason, usage, frame.timings))

    def _piece(
        self,
        parts: Sequence[Part] = (),
        calls: Sequence[GeneratedToolCall] = (),
        scores: Sequence[TokenLogprob] = (),
    ) -> dict[str, Any]:
        text = thought = ""
        for part in parts:
            if part.is_thought:
                thought += part.text
            else:
                text += part.text
        content: dict[str, Any] = {"role": "assistant", "content": text} if self._chat else {"response": text}
        if thought:
            content["thinking"] = thought
        if calls:
            content["tool_calls"] = [_call(call) for call in calls]
        created = datetime.fromtimestamp(self._now(), UTC).isoformat().removesuffix("+00:00")
        piece: dict[str, Any] = {"model": self._model, "created_at": f"{created}Z"}
        piece |= {"message": content} if self._chat else content
        if scores:
            piece["logprobs"] = [_logprob(score) for score in scores]
        return piece

    def _end(self, reason: FinishReason | None, usage: Usage, timings: Timings | None) -> dict[str, Any]:
        """The fields of the last object. A deployment is loaded already, so that takes no time."""
        spent = timings or Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)
        return {
            "done": True,
            "done_reason": "length" if reason is FinishReason.LENGTH else "stop",
            "total_duration": _ns(self._monotonic() - self._began),
            "load_duration": 0,
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": _ns(spent.prefill_s),
            "eval_count": usage.completion_tokens,
            "eval_duration": _ns(spent.decode_s),
        }


def _ns(seconds: float) -> int:
    return round(seconds * _NS)


def _call(call: GeneratedToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": orjson.Fragment(call.arguments)}
    return {"id": call.id, "function": function}


def _logprob(score: TokenLogprob) -> dict[str, Any]:
    return {**_entry(score), "top_logprobs": [_entry(each) for each in score.top]}


def _entry(token: ScoredToken) -> dict[str, Any]:
    data = token.text.encode() if token.bytes is None else token.bytes
    return {"token": token.text, "logprob": token.logprob, "bytes": list(data)}
