"""`POST /v1/chat/completions`."""

from collections.abc import AsyncIterator, Iterator, Sequence
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
from services.gateway.openai.logprobs import chat_logprobs, prompt_logprobs
from services.gateway.openai.requests import ChatRequest, parse
from services.gateway.openai.tools import call_objects, delta_objects
from services.gateway.openai.usage import RunningUsage, usage_object
from shared.contracts.gateway import FinishReason, Frame, TokenLogprob, Usage


class ChatApi:
    """Chat completions.

    Args:
        generations: Generate the messages.
        max_body: Bytes of a request at most.
    """

    def __init__(self, generations: Generations, max_body: int) -> None:
        self._generations = generations
        self._max_body = max_body

    async def create(self, request: Request) -> ASGIApp:
        """A chat completion, streamed if asked for."""
        body = await parse_request(request, partial(parse, ChatRequest), await read_body(request, self._max_body))
        completion_id, created = self._generations.new_id("chatcmpl"), self._generations.created()
        caller = Caller(state_of(request.scope).key_id, body.cache_salt or "")
        options = OutputOptions(
            body.grammar(),
            body.contract_tools(),
            body.contract_choice(),
            body.template_options(),
            return_prompt=body.returns_prompt,
        )
        answers = [
            (completion_id if index == 0 else f"{completion_id}-{index}", sampling)
            for index, sampling in enumerate(body.samplings(self._generations.seed()))
        ]
        requests = self._generations.chat_requests(answers, body.model, body.chat_messages(), caller, options=options)
        head = {"id": completion_id, "created": created, "model": body.model}
        if body.stream:
            return Stream(lambda: self._chunks(requests, head, body))
        completions = await unless_gone(request.receive, self._generations.collect(requests))
        prompt: dict[str, Any] = {}
        if body.return_token_ids:
            prompt["prompt_token_ids"] = completions[0].prompt.prompt_token_ids
        if body.returns_prompt_logprobs:
            prompt["prompt_logprobs"] = prompt_logprobs(completions[0].prompt_logprobs, body.prompt_logprobs or 0)
        return json_response(
            {
                **head,
                "object": "chat.completion",
                "system_fingerprint": completions[0].served_by,
                "choices": [_choice(index, completion, body) for index, completion in enumerate(completions)],
                "usage": usage_object([completion.usage for completion in completions], body.choices),
                **prompt,
            }
        )

    @asynccontextmanager
    async def _chunks(
        self, requests: Sequence[GenerationRequest], head: dict[str, Any], body: ChatRequest
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._generations.running(requests) as generations:
            yield _chat_chunks(generations, head, body)


def _choice(index: int, completion: Completion, body: ChatRequest) -> dict[str, Any]:
    choice = {
        "index": index,
        "message": _message(completion, body),
        "logprobs": _logprobs(completion.logprobs, body) if body.logprobs else None,
        "finish_reason": completion.finish_reason,
    }
    return {**choice, "token_ids": completion.token_ids} if body.return_token_ids else choice


async def _chat_chunks(
    generations: ConcurrentGenerations, head: dict[str, Any], body: ChatRequest
) -> AsyncIterator[bytes]:
    base = {**head, "object": "chat.completion.chunk", "system_fingerprint": generations.served_by}
    if body.include_usage:
        base["usage"] = None
    usages: dict[int, Usage] = {}
    running = RunningUsage(lambda _: generations.prompt(0)) if body.continuous_usage else None
    prompt = {"prompt_token_ids": generations.prompt(0).prompt_token_ids} if body.return_token_ids else {}
    for index in range(body.choices):
        first = _piece(index, {"role": "assistant", "content": None if body.may_call else ""})
        usage = running.of(index) if running else {}
        yield json_event({**base, **usage, **(prompt if index == 0 else {}), "choices": [first]})
    async for index, frame in generations.frames():
        usage = running.after(index, frame) if running else {}
        for piece in _pieces(index, frame, body):
            yield json_event({**base, **usage, "choices": [piece]})
        if frame.usage is not None:
            usages[index] = frame.usage
    if body.include_usage:
        ordered = [usages[index] for index in sorted(usages)]
        yield json_event({**base, "choices": [], "usage": usage_object(ordered, body.choices)})


def _pieces(index: int, frame: Frame, body: ChatRequest) -> Iterator[dict[str, Any]]:
    """What a frame adds to a choice: text, tool calls, the end."""
    tokens = _tokens(frame, body)
    if frame.text or (tokens and not frame.tool_calls):
        yield _piece(index, {"content": frame.text or (None if body.may_call else "")}, **tokens)
        tokens = {}
    if frame.tool_calls:
        yield _piece(index, {"tool_calls": delta_objects(frame.tool_calls)}, **tokens)
    if frame.finish_reason is not None:
        yield _piece(index, {}, finish_reason=frame.finish_reason)


def _piece(index: int, delta: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}


def _tokens(frame: Frame, body: ChatRequest) -> dict[str, Any]:
    """A chunk's fields on the frame's tokens, if the client asked for them; the text may come in a later chunk."""
    tokens: dict[str, Any] = {}
    if body.logprobs and frame.logprobs:
        tokens["logprobs"] = _logprobs(frame.logprobs, body)
    if body.return_token_ids and frame.token_ids:
        tokens["token_ids"] = frame.token_ids
    return tokens


def _logprobs(scores: Sequence[TokenLogprob], body: ChatRequest) -> dict[str, Any]:
    return chat_logprobs(scores, as_ids=bool(body.return_tokens_as_token_ids))


def _message(completion: Completion, body: ChatRequest) -> dict[str, Any]:
    """The assistant's message; its content is null if there is none beside calls, or beside the one that was cut."""
    without_text = bool(completion.tool_calls) or (body.may_call and completion.finish_reason is FinishReason.LENGTH)
    content = completion.text or (None if without_text else "")
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    return message | {"tool_calls": call_objects(completion.tool_calls)} if completion.tool_calls else message
