"""`POST /v1/chat/completions`."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from services.gateway.dispatch.dispatcher import Inquiry
from services.gateway.http.body import read_body, unless_gone
from services.gateway.http.middleware import state_of
from services.gateway.http.sse import EventStream
from services.gateway.openai.choices import Answer, Answering
from services.gateway.openai.generate import Asker, Caller, Demands
from services.gateway.openai.logprobs import chat_logprobs, prompt_logprobs
from services.gateway.openai.requests import ChatRequest, parse_request
from services.gateway.openai.tools import call_objects, delta_objects
from services.gateway.openai.usage import usage_object
from shared.contracts.gateway import Frame, TokenLogprob, Usage


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
        demands = Demands(asked.grammar(), asked.contract_tools(), asked.contract_choice(), asked.returns_prompt)
        messages = asked.chat_messages()
        inquiries = [
            self._asker.chat(
                answer_id if index == 0 else f"{answer_id}-{index}",
                asked.model,
                messages,
                sampling,
                caller,
                demands=demands,
            )
            for index, sampling in enumerate(asked.samplings(self._asker.seed()))
        ]
        head = {"id": answer_id, "created": created, "model": asked.model}
        if asked.stream:
            return EventStream(lambda: self._chunks(inquiries, head, asked))
        answers = await unless_gone(request.receive, self._asker.collect(inquiries))
        told: dict[str, Any] = {}
        if asked.return_token_ids:
            told["prompt_token_ids"] = answers[0].prompt.prompt_token_ids
        if asked.returns_prompt_logprobs:
            told["prompt_logprobs"] = prompt_logprobs(answers[0].prompt_logprobs, asked.prompt_logprobs or 0)
        return json_answer(
            {
                **head,
                "object": "chat.completion",
                "system_fingerprint": answers[0].served_by,
                "choices": [_choice(index, answer, asked) for index, answer in enumerate(answers)],
                "usage": usage_object([answer.usage for answer in answers], asked.choices),
                **told,
            }
        )

    @asynccontextmanager
    async def _chunks(
        self, inquiries: Sequence[Inquiry], head: dict[str, Any], asked: ChatRequest
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._asker.open(inquiries) as answering:
            yield _chat_chunks(answering, head, asked)


def _choice(index: int, answer: Answer, asked: ChatRequest) -> dict[str, Any]:
    choice = {
        "index": index,
        "message": _message(answer),
        "logprobs": _logprobs(answer.logprobs, asked) if asked.logprobs else None,
        "finish_reason": answer.finish_reason,
    }
    return {**choice, "token_ids": answer.token_ids} if asked.return_token_ids else choice


async def _chat_chunks(answering: Answering, head: dict[str, Any], asked: ChatRequest) -> AsyncIterator[bytes]:
    base = {**head, "object": "chat.completion.chunk", "system_fingerprint": answering.served_by}
    if asked.include_usage:
        base["usage"] = None
    usages: dict[int, Usage] = {}
    prompt = {"prompt_token_ids": answering.prompt(0).prompt_token_ids} if asked.return_token_ids else {}
    for index in range(asked.choices):
        first = _piece(index, {"role": "assistant", "content": ""})
        yield orjson.dumps({**base, **(prompt if index == 0 else {}), "choices": [first]})
    async for index, frame in answering.frames():
        for piece in _pieces(index, frame, asked):
            yield orjson.dumps({**base, "choices": [piece]})
        if frame.usage is not None:
            usages[index] = frame.usage
    if asked.include_usage:
        ordered = [usages[index] for index in sorted(usages)]
        yield orjson.dumps({**base, "choices": [], "usage": usage_object(ordered, asked.choices)})


def _pieces(index: int, frame: Frame, asked: ChatRequest) -> Iterator[dict[str, Any]]:
    """What a frame adds to a choice: text, pieces of tool calls, the end."""
    told = _told(frame, asked)
    if frame.text or (told and not frame.tool_calls):
        yield _piece(index, {"content": frame.text}, **told)
        told = {}
    if frame.tool_calls:
        yield _piece(index, {"tool_calls": delta_objects(frame.tool_calls)}, **told)
    if frame.finish_reason is not None:
        yield _piece(index, {}, finish_reason=frame.finish_reason)


def _piece(index: int, delta: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}


def _told(frame: Frame, asked: ChatRequest) -> dict[str, Any]:
    """What a chunk tells of the frame's tokens, if the client asked for it: also of those whose text is held back."""
    told: dict[str, Any] = {}
    if asked.logprobs and frame.logprobs:
        told["logprobs"] = _logprobs(frame.logprobs, asked)
    if asked.return_token_ids and frame.token_ids:
        told["token_ids"] = frame.token_ids
    return told


def _logprobs(scores: Sequence[TokenLogprob], asked: ChatRequest) -> dict[str, Any]:
    return chat_logprobs(scores, as_ids=bool(asked.return_tokens_as_token_ids))


def _message(answer: Answer) -> dict[str, Any]:
    """The assistant's message; its content is null if it only calls tools."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool_calls:
        message |= {"content": answer.text or None, "tool_calls": call_objects(answer.tool_calls)}
    return message


def json_answer(content: dict[str, Any]) -> Response:
    """A JSON response."""
    return Response(orjson.dumps(content), media_type="application/json")
