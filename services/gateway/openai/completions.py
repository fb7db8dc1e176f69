"""`POST /v1/completions`: one or several prompts, each with an answer of its own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp

from services.gateway.dispatch.dispatcher import Inquiry
from services.gateway.http.body import read_body, unless_gone
from services.gateway.http.middleware import state_of
from services.gateway.http.sse import EventStream
from services.gateway.openai.chat import json_answer
from services.gateway.openai.choices import Answer, Answering
from services.gateway.openai.generate import Asker, Caller, Demands
from services.gateway.openai.logprobs import TextLogprobs, joined, prompt_logprobs
from services.gateway.openai.requests import CompletionRequest, parse_request
from services.gateway.openai.usage import usage_object
from shared.contracts.gateway import Frame, Usage
from shared.contracts.replica import Accepted


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
        samplings = asked.samplings(self._asker.seed())
        caller = Caller(state_of(request.scope).key_id, asked.cache_salt or "")
        demands = Demands(asked.grammar(), return_prompt=asked.returns_prompt)
        wanted = [(prompt, sampling) for prompt in asked.prompt for sampling in samplings]
        inquiries = [
            self._asker.complete(f"{answer_id}-{index}", asked.model, prompt, sampling, caller, demands=demands)
            for index, (prompt, sampling) in enumerate(wanted)
        ]
        head = {"id": answer_id, "object": "text_completion", "created": created, "model": asked.model}
        if asked.stream:
            return EventStream(lambda: self._chunks(inquiries, head, asked))
        answers = await unless_gone(request.receive, self._asker.collect(inquiries))
        return json_answer(
            {
                **head,
                "system_fingerprint": answers[0].served_by,
                "choices": [
                    _choice(index, answer, asked) | _told_of_prompt(answers[index - index % asked.choices], asked)
                    for index, answer in enumerate(answers)
                ],
                "usage": usage_object([answer.usage for answer in answers], asked.choices),
            }
        )

    @asynccontextmanager
    async def _chunks(
        self, inquiries: Sequence[Inquiry], head: dict[str, Any], asked: CompletionRequest
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._asker.open(inquiries) as answering:
            yield _text_chunks(answering, head, asked)


def _choice(index: int, answer: Answer, asked: CompletionRequest) -> dict[str, Any]:
    rendering = _Rendering(asked, answer.prompt)
    last = Frame(
        request_id="",
        seq=0,
        text=answer.text,
        token_ids=answer.token_ids,
        logprobs=answer.logprobs,
        prompt_logprobs=answer.prompt_logprobs,
        finish_reason=answer.finish_reason,
    )
    return {"index": index, **rendering.add(last)}


def _told_of_prompt(first: Answer, asked: CompletionRequest) -> dict[str, Any]:
    """What a choice tells of its prompt beside OpenAI's fields; `first` is the first answer to it."""
    if not asked.returns_prompt_logprobs:
        return {}
    return {"prompt_logprobs": prompt_logprobs(first.prompt_logprobs, asked.prompt_logprobs or 0)}


async def _text_chunks(answering: Answering, head: dict[str, Any], asked: CompletionRequest) -> AsyncIterator[bytes]:
    base = {**head, "system_fingerprint": answering.served_by}
    if asked.include_usage:
        base["usage"] = None
    usages: dict[int, Usage] = {}
    renderings: dict[int, _Rendering] = {}
    async for index, frame in answering.frames():
        if index not in renderings:
            renderings[index] = _Rendering(asked, answering.prompt(index))
        if renderings[index].tells(frame):
            yield orjson.dumps({**base, "choices": [{"index": index, **renderings[index].add(frame)}]})
        if frame.usage is not None:
            usages[index] = frame.usage
    if asked.include_usage:
        ordered = [usages[index] for index in sorted(usages)]
        yield orjson.dumps({**base, "choices": [], "usage": usage_object(ordered, asked.choices)})


class _Rendering:
    """One choice, piece by piece."""

    def __init__(self, asked: CompletionRequest, prompt: Accepted) -> None:
        self._asked = asked
        self._prompt: Accepted | None = prompt
        """Until the first piece told it."""
        self._logprobs = TextLogprobs(as_ids=bool(asked.return_tokens_as_token_ids), top=asked.logprobs or 0)
        if asked.echo:
            self._logprobs.echo(prompt.prompt_text or "")

    def tells(self, frame: Frame) -> bool:
        """Whether `frame` has anything for the client."""
        asked = self._asked
        scored = asked.logprobs is not None and (frame.logprobs or (asked.echo and frame.prompt_logprobs))
        return bool(frame.text or scored or frame.finish_reason or (asked.return_token_ids and frame.token_ids))

    def add(self, frame: Frame) -> dict[str, Any]:
        """What a frame adds to the choice."""
        asked, prompt, self._prompt = self._asked, self._prompt, None
        text, logprobs = frame.text, None
        if prompt is not None and asked.echo:
            text = (prompt.prompt_text or "") + text
        if asked.logprobs is not None:
            logprobs = self._logprobs.prompt((frame.prompt_logprobs if asked.echo else None) or ())
            if frame.logprobs:
                logprobs = joined(logprobs, self._logprobs.answer(frame.logprobs))
        piece: dict[str, Any] = {"text": text, "logprobs": logprobs, "finish_reason": frame.finish_reason}
        if asked.return_token_ids:
            piece["token_ids"] = frame.token_ids
            if prompt is not None:
                piece["prompt_token_ids"] = prompt.prompt_token_ids
        return piece
