"""`POST /v1/chat/completions`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from services.gateway.dispatch import Inquiry
from services.gateway.http.answers import Answer, Answering, Asker, Caller, Demands
from services.gateway.http.body import read_body, unless_gone
from services.gateway.http.observed import state_of
from services.gateway.http.openai_tools import call_objects, delta_objects
from services.gateway.http.openai_types import ChatRequest, parse_request
from services.gateway.http.sse import EventStream
from services.gateway.http.usage import usage_object


class ChatApi:
    """Chat completions.

    Args:
        asker: Has them answered.
        max_body: Bytes of a request at most.
    """

    def __init__(self, asker: Asker, max_body: int) -> None:
        self._asker = asker
        self._max_body = max_body

    async def create(self, request: Request) -> ASGIApp:
        """A chat completion, streamed if asked for."""
        asked = parse_request(ChatRequest, await read_body(request, self._max_body))
        answer_id, created = self._asker.answer_id("chatcmpl"), self._asker.created()
        caller = Caller(state_of(request.scope).key_id, asked.cache_salt or "")
        demands = Demands(asked.grammar(), asked.contract_tools(), asked.contract_choice())
        inquiry = self._asker.chat(
            answer_id, asked.model, asked.chat_messages(), asked.sampling(self._asker.seed()), caller, demands=demands
        )
        head = {"id": answer_id, "created": created, "model": asked.model}
        if asked.stream:
            return EventStream(lambda: self._chunks(inquiry, head, include_usage=asked.include_usage))
        (answer,) = await unless_gone(request.receive, self._asker.collect([inquiry]))
        choice = {
            "index": 0,
            "message": _message(answer),
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        return json_answer(
            {
                **head,
                "object": "chat.completion",
                "system_fingerprint": answer.served_by,
                "choices": [choice],
                "usage": usage_object([answer.usage]),
            }
        )

    @asynccontextmanager
    async def _chunks(
        self, inquiry: Inquiry, head: dict[str, Any], *, include_usage: bool
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._asker.open([inquiry]) as answering:
            yield _chat_chunks(answering, head, include_usage=include_usage)


async def _chat_chunks(answering: Answering, head: dict[str, Any], *, include_usage: bool) -> AsyncIterator[bytes]:
    base = {**head, "object": "chat.completion.chunk", "system_fingerprint": answering.served_by}
    if include_usage:
        base["usage"] = None

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return orjson.dumps({**base, "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    async for _, frame in answering.frames():
        if frame.text:
            yield chunk({"content": frame.text})
        if frame.tool_calls:
            yield chunk({"tool_calls": delta_objects(frame.tool_calls)})
        if frame.finish_reason is not None:
            yield chunk({}, frame.finish_reason)
            if include_usage and frame.usage is not None:
                yield orjson.dumps({**base, "choices": [], "usage": usage_object([frame.usage])})


def _message(answer: Answer) -> dict[str, Any]:
    """The assistant's message; its content is null if it only calls tools."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool_calls:
        message |= {"content": answer.text or None, "tool_calls": call_objects(answer.tool_calls)}
    return message


def json_answer(content: dict[str, Any]) -> Response:
    """A JSON response."""
    return Response(orjson.dumps(content), media_type="application/json")
