"""`/llmos/v1/events`: who changed what, as a list or as it happens, and whether the record of it is whole."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from services.gateway.admin.operations import PREFIX, TAG
from services.gateway.admin.queries import flag, limit, seconds
from services.gateway.http.dialect import json_event
from services.gateway.http.operation import Operation
from services.gateway.http.stream import Stream
from shared.audit.reading import Cursor, EventFilter, EventReader
from shared.bus.port import Bus
from shared.contracts.events import CHAINS, AuditReport, EventList
from shared.errors import InvalidInput

_MOST = 1000
_FILTERS = {
    "since": "Seconds ago, at most",
    "until": "Seconds ago, at least",
    "by": "For whom it was done: the id of an API key, a user or a job",
    "service": f"Whose: {', '.join(CHAINS)}",
    "kind": "What happened (deployment.changed), or to what kind of thing (deployment)",
    "name": "Of the thing",
    "limit": f"How many: 1 to {_MOST}, 20 by default",
    "follow": "true: server-sent events, the newest first in their order, then those that come",
    "after": "The `id` of a server-sent event: only those behind it, as they come",
}


class EventsApi:
    """Events.

    Args:
        bus: Has their streams.
    """

    def __init__(self, bus: Bus) -> None:
        self._reader = EventReader(bus)

    def operations(self) -> list[Operation]:
        """The routes."""
        events, heads = f"{PREFIX}/events", {"heads": "What an earlier check found: CHAIN:NUMBER:DIGEST,…"}
        return [
            Operation("GET", events, self.list, "Who did what, newest first", TAG, result=EventList, query=_FILTERS),
            Operation(
                "GET",
                f"{events}/verify",
                self.verify,
                "Check all chains of events",
                TAG,
                result=AuditReport,
                query=heads,
            ),
        ]

    async def list(self, request: Request) -> Response | ASGIApp:
        """A list, or a stream of events; raises `InvalidInput` for a query that is none."""
        query = _checked(request, _FILTERS)
        chosen, count = _filter(query), limit(query, most=_MOST)
        if "after" in query or flag(query, "follow"):
            after = Cursor.parse(query["after"]) if "after" in query else None

            @asynccontextmanager
            async def source() -> AsyncIterator[AsyncIterator[bytes]]:
                yield self._follow(chosen, count, after)

            return Stream(source)
        events, cursor = await self._reader.newest(chosen, count)
        return _json(EventList(events=tuple(events), cursor=str(cursor)))

    async def verify(self, request: Request) -> Response:
        """Read all events and check their chains."""
        query = _checked(request, {"heads"})
        return _json(await self._reader.verify(_heads(query.get("heads", "")), datetime.now(UTC)))

    async def _follow(self, chosen: EventFilter, count: int, cursor: Cursor | None) -> AsyncIterator[bytes]:
        if cursor is None:
            events, cursor = await self._reader.newest(chosen, count)
            for event in reversed(events):
                yield json_event(event.model_dump(mode="json", exclude_none=True))
        async for found, at in self._reader.follow(chosen, cursor):
            yield json_event({"id": str(at), **found.model_dump(mode="json", exclude_none=True)})


def _filter(query: Mapping[str, str]) -> EventFilter:
    now = datetime.now(UTC)
    ago = {name: seconds(query, name) for name in ("since", "until")}
    times = {name: None if value is None else now - timedelta(seconds=value) for name, value in ago.items()}
    service = query.get("service")
    if service is not None and service not in CHAINS:
        raise InvalidInput(f"service must be one of {', '.join(CHAINS)}, not {service[:40]!r}", param="service")
    return EventFilter(
        since=times["since"],
        until=times["until"],
        by=query.get("by"),
        service=service,
        kind=query.get("kind"),
        name=query.get("name"),
    )


def _heads(text: str) -> dict[str, tuple[int, str]]:
    heads: dict[str, tuple[int, str]] = {}
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition(":")
        number, _, digest = rest.partition(":")
        if name not in CHAINS or not number.isdecimal() or len(number) > 18 or len(digest) != 64:
            raise InvalidInput(f"heads must be CHAIN:NUMBER:SHA-256, … , not {part[:100]!r}", param="heads")
        heads[name] = int(number), digest
    return heads


def _checked(request: Request, known: Mapping[str, str] | set[str]) -> Mapping[str, str]:
    """The query; raises `InvalidInput` for a parameter that is not known."""
    if unknown := set(request.query_params) - set(known):
        name = min(unknown)
        raise InvalidInput(f"unrecognized query parameter: {name}; there are: {', '.join(known)}", param=name)
    return request.query_params


def _json(result: EventList | AuditReport) -> Response:
    return Response(result.model_dump_json(), media_type="application/json")
