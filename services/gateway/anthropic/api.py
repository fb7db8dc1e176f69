"""`POST /v1/messages` and `/v1/messages/count_tokens`."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from services.gateway.anthropic.answer import events, message
from services.gateway.anthropic.dialect import ANTHROPIC
from services.gateway.anthropic.requests import MessagesRequest, parse_count, parse_message
from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.requests import Caller, GenerationRequest, OutputOptions
from services.gateway.dispatch.tokenizations import Tokenizations, check_chars
from services.gateway.http.body import parse_request, read_body, unless_gone
from services.gateway.http.middleware import state_of
from services.gateway.http.responses import json_response
from services.gateway.http.stream import Stream
from shared.contracts.tokenization import Tokenize, tokenize_endpoint
from shared.errors import InvalidInput

OLDEST_VERSION = "2023-06-01"
"""Of `anthropic-version`: the first with events that have names. Later ones have added to it."""
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")


class MessagesApi:
    """Messages.

    Args:
        generations: Generate them.
        tokenizations: Count their tokens.
        max_body: Bytes of a request at most.
    """

    def __init__(self, generations: Generations, tokenizations: Tokenizations, max_body: int) -> None:
        self._generations = generations
        self._tokenizations = tokenizations
        self._max_body = max_body

    async def create(self, request: Request) -> ASGIApp:
        """The next message of a conversation, streamed if asked for."""
        _check_version(request)
        body = await parse_request(request, parse_message, await read_body(request, self._max_body))
        options = OutputOptions(
            body.grammar(),
            body.contract_tools(),
            body.contract_choice(),
            body.template_options(),
            clip_max_tokens=True,
        )
        message_id = self._generations.new_id("msg").replace("-", "_")
        answer = (message_id, body.sampling(self._generations.seed()))
        caller = Caller(state_of(request.scope).key_id)
        requests = self._generations.chat_requests(
            [answer], body.model, body.chat_messages(), caller, options=options
        )
        head = {"id": message_id, "type": "message", "role": "assistant", "model": body.model}
        if body.stream:
            return Stream(lambda: self._events(requests, head, body), ANTHROPIC)
        (completion,) = await unless_gone(request.receive, self._generations.collect(requests))
        return json_response(message(head, completion, body))

    async def count_tokens(self, request: Request) -> Response:
        """How many tokens the prompt of a message has."""
        _check_version(request)
        data = await read_body(request, self._max_body)
        body = await parse_request(request, parse_count, data)
        messages, tools = body.chat_messages(), body.contract_tools()
        check_chars((each.content for each in messages), "messages")
        command = Tokenize(
            messages=messages,
            tools=() if body.contract_choice().mode == "none" else tools,
            add_special_tokens=False,
            template=body.template_options(),
            tenant=state_of(request.scope).key_id,
        )
        asking = self._tokenizations.ask(body.model, tokenize_endpoint, command, size=len(data))
        result = await unless_gone(request.receive, asking)
        return json_response({"input_tokens": len(result.token_ids)})

    @asynccontextmanager
    async def _events(
        self, requests: Sequence[GenerationRequest], head: dict[str, Any], body: MessagesRequest
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._generations.running(requests) as generations:
            yield events(generations, head, body)


def _check_version(request: Request) -> None:
    """Raise `InvalidInput` for a version of another form; a request without one is as good as the oldest."""
    given = request.headers.get("anthropic-version", OLDEST_VERSION)
    if not _VERSION.fullmatch(given) or given < OLDEST_VERSION:
        raise InvalidInput(
            f"anthropic-version: {given[:40]!r} is not served; send {OLDEST_VERSION} or a later date",
            param="anthropic-version",
        )
