"""`POST /api/chat`, `/api/generate`, `/api/embed` and `/api/embeddings`."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from services.gateway.dialects.vectors import floats
from services.gateway.dispatch.encodings import MODEL_MAX, Encodings
from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.requests import Caller, GenerationRequest, OutputOptions
from services.gateway.http.body import parse_request, read_body, unless_gone
from services.gateway.http.middleware import state_of
from services.gateway.http.responses import json_response
from services.gateway.http.stream import Stream
from services.gateway.ollama.answer import OllamaResult
from services.gateway.ollama.dialect import OLLAMA
from services.gateway.ollama.requests import (
    AnswerRequest,
    ChatRequest,
    EmbeddingsRequest,
    EmbedRequest,
    GenerateRequest,
    parse,
)
from services.gateway.routing.live_table import LiveTable
from shared.telemetry import genai


class OllamaApi:
    """Answers and embeddings.

    Args:
        generations: Generate the answers.
        encodings: Embed texts.
        table: The deployments.
        max_body: Bytes of a request at most.
    """

    def __init__(self, generations: Generations, encodings: Encodings, table: LiveTable, max_body: int) -> None:
        self._generations = generations
        self._encodings = encodings
        self._table = table
        self._max_body = max_body

    async def chat(self, request: Request) -> ASGIApp:
        """The next message of a conversation, streamed unless `stream` is false."""
        body = await parse_request(request, partial(parse, ChatRequest), await read_body(request, self._max_body))
        if not body.messages:
            return self._load(body, chat=True)
        options = OutputOptions(
            body.grammar(), body.contract_tools(), template=body.template_options(), clip_max_tokens=True
        )
        answer = (self._generations.new_id("chat"), body.sampling(self._generations.seed()))
        caller = Caller(state_of(request.scope).key_id)
        requests = self._generations.chat_requests(
            [answer], body.model, body.chat_messages(), caller, options=options
        )
        return await self._answer(request, requests, body, chat=True)

    async def generate(self, request: Request) -> ASGIApp:
        """The answer to a prompt, streamed unless `stream` is false."""
        body = await parse_request(request, partial(parse, GenerateRequest), await read_body(request, self._max_body))
        if not body.prompt:
            return self._load(body, chat=False)
        messages, caller = body.chat_messages(), Caller(state_of(request.scope).key_id)
        options = OutputOptions(body.grammar(), template=body.template_options(), clip_max_tokens=True)
        answers = [(self._generations.new_id("generate"), body.sampling(self._generations.seed()))]
        if body.raw:
            requests = self._generations.completion_requests(
                answers, body.model, body.prompt, caller, options=options, parse_special=True
            )
        else:
            requests = self._generations.chat_requests(answers, body.model, messages, caller, options=options)
        return await self._answer(request, requests, body, chat=False)

    async def embed(self, request: Request) -> Response:
        """Embeddings of texts."""
        began = time.monotonic_ns()
        body = await parse_request(request, partial(parse, EmbedRequest), await read_body(request, self._max_body))
        truncate = None if body.truncate is False else MODEL_MAX
        vectors, tokens = await self._embed(request, body.model, body.input, truncate, body.dimensions or None)
        return json_response(
            {
                "model": body.model,
                "embeddings": vectors,
                "total_duration": time.monotonic_ns() - began,
                "load_duration": 0,
                "prompt_eval_count": tokens,
            }
        )

    async def embed_one(self, request: Request) -> Response:
        """The embedding of a text, in the older form."""
        body = await parse_request(
            request, partial(parse, EmbeddingsRequest), await read_body(request, self._max_body)
        )
        vectors, _ = await self._embed(request, body.model, (body.prompt,), MODEL_MAX, None)
        return json_response({"embedding": vectors[0]})

    async def _embed(
        self, request: Request, model: str, texts: Sequence[str], truncate: int | None, dimensions: int | None
    ) -> tuple[list[list[float]], int]:
        """(vectors, tokens of all texts)."""
        tenant = state_of(request.scope).key_id
        with self._encodings.working(genai.OPERATION_EMBEDDINGS, "embed", model, tenant, truncate) as work:
            embedding = self._encodings.embed(work, texts, None, dimensions)
            parts = await unless_gone(request.receive, embedding)
        vectors = [floats(vector) for part in parts for vector in part.vectors]
        return vectors, sum(sum(part.tokens) for part in parts)

    def _load(self, body: AnswerRequest, *, chat: bool) -> Response:
        """What a request without a prompt gets; raises unless a replica can answer."""
        self._table.choose(body.model)
        return json_response(self._begin(body, chat=chat).loaded(unloads=body.unloads))

    async def _answer(
        self, request: Request, requests: Sequence[GenerationRequest], body: AnswerRequest, *, chat: bool
    ) -> ASGIApp:
        answer = self._begin(body, chat=chat)
        if body.streams:
            return Stream(partial(self._lines, requests, answer), OLLAMA)
        (completion,) = await unless_gone(request.receive, self._generations.collect(requests))
        return json_response(answer.whole(completion))

    def _begin(self, body: AnswerRequest, *, chat: bool) -> OllamaResult:
        return OllamaResult(body.model, chat=chat, now=time.time, monotonic=time.monotonic)

    @asynccontextmanager
    async def _lines(
        self, requests: Sequence[GenerationRequest], answer: OllamaResult
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._generations.running(requests) as generations:
            yield answer.lines(generations)
