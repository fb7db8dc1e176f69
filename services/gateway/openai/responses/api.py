"""`/v1/responses`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp

from services.gateway.http.body import parse_request, read_body, unless_gone
from services.gateway.http.dialect import OPENAI
from services.gateway.http.middleware import state_of
from services.gateway.http.responses import json_response
from services.gateway.http.stream import Stream
from services.gateway.openai.pages import check_query, limit_of, page_of
from services.gateway.openai.responses.background.retrieval import Retrieval
from services.gateway.openai.responses.background.runs import BackgroundRuns
from services.gateway.openai.responses.events import EventWriter
from services.gateway.openai.responses.generator import ResponseGenerator
from services.gateway.openai.responses.preparation import Preparation, Prepared
from services.gateway.openai.responses.request.body import parse_response_request
from services.gateway.openai.responses.resource import Resource, deleted
from services.gateway.openai.responses.storage.store import Stored
from shared.contracts.response import ResponseStatus
from shared.errors import InvalidInput

PAGE, MOST = 20, 100
"""Items of a page: by default, and at most."""


class ResponsesApi:
    """Responses.

    Args:
        preparation: Finds out what requests ask for.
        generator: Generates responses.
        runs: Generates those that go on in the background.
        retrieval: Reads those that are stored.
        max_body: Bytes of a request at most.
    """

    def __init__(
        self,
        preparation: Preparation,
        generator: ResponseGenerator,
        runs: BackgroundRuns,
        retrieval: Retrieval,
        max_body: int,
    ) -> None:
        self._preparation = preparation
        self._generator = generator
        self._runs = runs
        self._retrieval = retrieval
        self._max_body = max_body

    async def create(self, request: Request) -> ASGIApp:
        """A response, streamed if asked for, or begun in the background."""
        body = await parse_request(request, parse_response_request, await read_body(request, self._max_body))
        prepared = await self._preparation.prepare(body, tenant_of(request))
        if body.background:
            return await self._in_background(prepared)
        if body.stream:
            writer = EventWriter()
            dialect = replace(OPENAI, failure=lambda error: writer.failure(prepared.resource, error))
            return Stream(lambda: self._streamed(prepared, writer), dialect)
        return json_response(await unless_gone(request.receive, self._whole(prepared)))

    async def retrieve(self, request: Request) -> ASGIApp:
        """A stored response, or the events of one that was begun in the background."""
        check_query(request, "stream", "starting_after", "include", "include[]", "include_obfuscation")
        tenant = tenant_of(request)
        content, stored = await self._retrieval.read(tenant, _id_of(request))
        if not _flag(request, "stream"):
            return json_response(content["response"])
        if not stored.record.events:
            raise InvalidInput(
                "only a response that was created with background=true and stream=true has events", param="stream"
            )
        return self._following(tenant, stored, _after(request))

    async def cancel(self, request: Request) -> ASGIApp:
        """Have a background response end."""
        return json_response(await self._retrieval.cancel(tenant_of(request), _id_of(request)))

    async def delete(self, request: Request) -> ASGIApp:
        """Delete a stored response."""
        response_id = _id_of(request)
        await self._retrieval.delete(tenant_of(request), response_id)
        return json_response(deleted("response", response_id))

    async def input_items(self, request: Request) -> ASGIApp:
        """A page of the items that a response was generated for, with those that came before them."""
        content, _ = await self._retrieval.read(tenant_of(request), _id_of(request))
        return json_response(items_page(content["input"], request))

    async def _whole(self, prepared: Prepared) -> Resource:
        async with self._generator.running(prepared) as events:
            async for together in events:
                for _ in together:
                    pass
        await self._generator.keep(prepared)
        return prepared.resource

    @asynccontextmanager
    async def _streamed(self, prepared: Prepared, writer: EventWriter) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._generator.running(prepared) as events:

            async def pieces() -> AsyncIterator[bytes]:
                async for together in events:
                    if piece := b"".join(map(writer.write, together)):
                        yield piece
                await self._generator.keep(prepared)
                yield writer.state(prepared.resource)

            yield pieces()

    async def _in_background(self, prepared: Prepared) -> ASGIApp:
        run = await self._runs.start(prepared)
        assert run.stored is not None
        if prepared.request.stream:
            return self._following(prepared.tenant, run.stored, 0)
        return json_response({**prepared.resource, "status": ResponseStatus.QUEUED, "output": []})

    def _following(self, tenant: str, stored: Stored, number: int) -> ASGIApp:
        """The events of a background response from `number` on. A reader that leaves does not end it."""
        next_number = number

        @asynccontextmanager
        async def followed() -> AsyncIterator[AsyncIterator[bytes]]:
            async def pieces() -> AsyncIterator[bytes]:
                nonlocal next_number
                async for event in self._retrieval.events(tenant, stored, number):
                    yield event
                    next_number += 1

            yield pieces()

        return Stream(followed, replace(OPENAI, failure=lambda error: EventWriter(next_number).error(error)))


def tenant_of(request: Request) -> str:
    """Whose request it is: the id of its key."""
    return state_of(request.scope).key_id


def items_page(items: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    """A page of items, newest first unless the request says otherwise."""
    check_query(request, "after", "before", "limit", "order", "include", "include[]")
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidInput(f"order must be asc or desc, not {order[:40]!r}", param="order")
    if request.query_params.get("before"):
        raise InvalidInput("before is not supported; use after with the other order", param="before")
    ordered = items if order == "asc" else items[::-1]
    return page_of(ordered, request, limit_of(request, default=PAGE, most=MOST))


def _id_of(request: Request) -> str:
    response_id: str = request.path_params["response_id"]
    return response_id


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false"):
        raise InvalidInput(f"{name} must be true or false, not {text[:40]!r}", param=name)
    return text == "true"


def _after(request: Request) -> int:
    """The number of the first event that is asked for."""
    text = request.query_params.get("starting_after")
    if text is None:
        return 0
    if not text.isdecimal() or len(text) > 9:
        raise InvalidInput(
            f"starting_after must be the number of an event, not {text[:40]!r}", param="starting_after"
        )
    return int(text) + 1
