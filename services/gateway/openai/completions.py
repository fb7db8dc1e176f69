"""`POST /v1/completions`: one or several prompts, each with its own choices."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp

from services.gateway.dispatch.concurrent_generations import Completion, ConcurrentGenerations
from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.requests import Caller, GenerationRequest, OutputOptions
from services.gateway.http.body import parse_request, read_body, unless_gone
from services.gateway.http.dialect import json_event
from services.gateway.http.middleware import state_of
from services.gateway.http.responses import json_response
from services.gateway.http.stream import Stream
from services.gateway.openai.logprobs import TextLogprobs, joined, prompt_logprobs
from services.gateway.openai.requests import CompletionRequest, parse
from services.gateway.openai.usage import RunningUsage, usage_object
from shared.contracts.gateway import Frame, Usage
from shared.contracts.replica import Accepted


class CompletionsApi:
    """Text completions.

    Args:
        generations: Generate the texts.
        max_body: Bytes of a request at most.
    """

    def __init__(self, generations: Generations, max_body: int) -> None:
        self._generations = generations
        self._max_body = max_body

    async def create(self, request: Request) -> ASGIApp:
        """A completion of every prompt, streamed if asked for."""
        body = await parse_request(
            request, partial(parse, CompletionRequest), await read_body(request, self._max_body)
        )
        completion_id, created = self._generations.new_id("cmpl"), self._generations.created()
        samplings = body.samplings(self._generations.seed())
        caller = Caller(state_of(request.scope).key_id, body.cache_salt or "")
        options = OutputOptions(body.grammar(), return_prompt=body.returns_prompt)
        requests = [
            request
            for first, prompt in zip(itertools.count(step=len(samplings)), body.prompt)
            for request in self._generations.completion_requests(
                [(f"{completion_id}-{index}", sampling) for index, sampling in enumerate(samplings, start=first)],
                body.model,
                prompt,
                caller,
                options=options,
                parse_special=bool(body.parse_special),
            )
        ]
        head = {"id": completion_id, "object": "text_completion", "created": created, "model": body.model}
        if body.stream:
            return Stream(lambda: self._chunks(requests, head, body))
        completions = await unless_gone(request.receive, self._generations.collect(requests))
        return json_response(
            {
                **head,
                "system_fingerprint": completions[0].served_by,
                "choices": [
                    _choice(index, completion, body) | _prompt_scores(completions[index - index % body.choices], body)
                    for index, completion in enumerate(completions)
                ],
                "usage": usage_object([completion.usage for completion in completions], body.choices),
            }
        )

    @asynccontextmanager
    async def _chunks(
        self, requests: Sequence[GenerationRequest], head: dict[str, Any], body: CompletionRequest
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._generations.running(requests) as generations:
            yield _text_chunks(generations, head, body)


def _choice(index: int, completion: Completion, body: CompletionRequest) -> dict[str, Any]:
    rendering = _Rendering(body, completion.prompt)
    last = Frame(
        request_id="",
        seq=0,
        text=completion.text,
        token_ids=completion.token_ids,
        logprobs=completion.logprobs,
        prompt_logprobs=completion.prompt_logprobs,
        finish_reason=completion.finish_reason,
    )
    return {"index": index, **rendering.add(last)}


def _prompt_scores(first: Completion, body: CompletionRequest) -> dict[str, Any]:
    """The field of vLLM for a prompt's log probabilities; `first` is the prompt's first completion."""
    if not body.returns_prompt_logprobs:
        return {}
    return {"prompt_logprobs": prompt_logprobs(first.prompt_logprobs, body.prompt_logprobs or 0)}


async def _text_chunks(
    generations: ConcurrentGenerations, head: dict[str, Any], body: CompletionRequest
) -> AsyncIterator[bytes]:
    base = {**head, "system_fingerprint": generations.served_by}
    if body.include_usage:
        base["usage"] = None
    usages: dict[int, Usage] = {}
    renderings: dict[int, _Rendering] = {}
    running = RunningUsage(generations.prompt) if body.continuous_usage else None
    async for index, frame in generations.frames():
        usage = running.after(index, frame) if running else {}
        if index not in renderings:
            renderings[index] = _Rendering(body, generations.prompt(index))
        if renderings[index].has_output(frame):
            yield json_event({**base, **usage, "choices": [{"index": index, **renderings[index].add(frame)}]})
        if frame.usage is not None:
            usages[index] = frame.usage
    if body.include_usage:
        ordered = [usages[index] for index in sorted(usages)]
        yield json_event({**base, "choices": [], "usage": usage_object(ordered, body.choices)})


class _Rendering:
    """One choice, piece by piece."""

    def __init__(self, body: CompletionRequest, prompt: Accepted) -> None:
        self._body = body
        self._prompt: Accepted | None = prompt
        """Until the first piece is made."""
        self._logprobs = TextLogprobs(as_ids=bool(body.return_tokens_as_token_ids), top=body.logprobs or 0)
        if body.echo:
            self._logprobs.echo(prompt.prompt_text or "")

    def has_output(self, frame: Frame) -> bool:
        """Whether `frame` adds anything to the choice."""
        body = self._body
        scored = body.logprobs is not None and (frame.logprobs or (body.echo and frame.prompt_logprobs))
        return bool(frame.text or scored or frame.finish_reason or (body.return_token_ids and frame.token_ids))

    def add(self, frame: Frame) -> dict[str, Any]:
        """What a frame adds to the choice."""
        body, prompt, self._prompt = self._body, self._prompt, None
        text, logprobs = frame.text, None
        if prompt is not None and body.echo:
            text = (prompt.prompt_text or "") + text
        if body.logprobs is not None:
            logprobs = self._logprobs.prompt((frame.prompt_logprobs if body.echo else None) or ())
            if frame.logprobs:
                logprobs = joined(logprobs, self._logprobs.completion(frame.logprobs))
        piece: dict[str, Any] = {"text": text, "logprobs": logprobs, "finish_reason": frame.finish_reason}
        if body.return_token_ids:
            piece["token_ids"] = frame.token_ids
            if prompt is not None:
                piece["prompt_token_ids"] = prompt.prompt_token_ids
        return piece
