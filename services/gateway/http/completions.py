"""`POST /v1/completions`: one or several prompts, each with an answer of its own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp

from services.gateway.dispatch import Inquiry
from services.gateway.http.answers import Answering, Asker, Caller, Demands
from services.gateway.http.body import read_body, unless_gone
from services.gateway.http.chat import json_answer
from services.gateway.http.observed import state_of
from services.gateway.http.openai_types import CompletionRequest, parse_request
from services.gateway.http.sse import EventStream
from services.gateway.http.usage import usage_object
from shared.contracts.gateway import Usage


class CompletionsApi:
    """Text completions.

    Args:
        asker: Has them answered.
        max_body: Bytes of a request at most.
    """

    def __init__(self, asker: Asker, max_body: int) -> None:
        self._asker = asker
        self._max_body = max_body

    async def create(self, request: Request) -> ASGIApp:
        """A completion of every prompt, streamed if asked for."""
        asked = parse_request(CompletionRequest, await read_body(request, self._max_body))
        answer_id, created = self._asker.answer_id("cmpl"), self._asker.created()
        sampling = asked.sampling(self._asker.seed())
        caller = Caller(state_of(request.scope).key_id, asked.cache_salt or "")
        demands = Demands(asked.grammar())
        inquiries = [
            self._asker.complete(f"{answer_id}-{index}", asked.model, prompt, sampling, caller, demands=demands)
            for index, prompt in enumerate(asked.prompt)
        ]
        head = {"id": answer_id, "object": "text_completion", "created": created, "model": asked.model}
        if asked.stream:
            return EventStream(lambda: self._chunks(inquiries, head, include_usage=asked.include_usage))
        answers = await unless_gone(request.receive, self._asker.collect(inquiries))
        choices = [
            {"index": index, "text": answer.text, "logprobs": None, "finish_reason": answer.finish_reason}
            for index, answer in enumerate(answers)
        ]
        return json_answer(
            {
                **head,
                "system_fingerprint": answers[0].served_by,
                "choices": choices,
                "usage": usage_object([answer.usage for answer in answers]),
            }
        )

    @asynccontextmanager
    async def _chunks(
        self, inquiries: Sequence[Inquiry], head: dict[str, Any], *, include_usage: bool
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._asker.open(inquiries) as answering:
            yield _text_chunks(answering, head, include_usage=include_usage)


async def _text_chunks(answering: Answering, head: dict[str, Any], *, include_usage: bool) -> AsyncIterator[bytes]:
    base = {**head, "system_fingerprint": answering.served_by}
    if include_usage:
        base["usage"] = None
    usages: list[Usage] = []
    async for index, frame in answering.frames():
        if frame.text or frame.finish_reason is not None:
            choice = {"index": index, "text": frame.text, "logprobs": None, "finish_reason": frame.finish_reason}
            yield orjson.dumps({**base, "choices": [choice]})
        if frame.usage is not None:
            usages.append(frame.usage)
    if include_usage:
        yield orjson.dumps({**base, "choices": [], "usage": usage_object(usages)})
