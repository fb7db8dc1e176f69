"""Reads events: the newest that match, those that follow, and whole chains for their check."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from pydantic import ValidationError

from shared.audit.verify import ChainCheck, restored_at
from shared.bus.port import Bus, EventStream, Message
from shared.contracts.events import CHAINS, EVENT_STREAMS, AuditReport, Event, EventStreamLimits
from shared.errors import InvalidInput

_log = structlog.get_logger("llmos.audit")

PAGE = 256
POLL_S = 0.5
"""A follower looks for new events this often."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events; None: all."""

    since: datetime | None = None
    until: datetime | None = None
    by: str | None = None
    service: str | None = None
    """The chain."""
    kind: str | None = None
    """The whole of it (`deployment.changed`), or the thing (`deployment`)."""
    name: str | None = None

    def matches(self, event: Event) -> bool:
        """Whether an event is chosen."""
        return (
            (self.since is None or event.at >= self.since)
            and (self.until is None or event.at < self.until)
            and self.by in (None, event.by)
            and self.service in (None, event.service)
            and self.kind in (None, event.kind, event.kind.split(".")[0])
            and self.name in (None, event.name)
        )


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far each stream was read, in the order of `EVENT_STREAMS`."""

    positions: tuple[int, ...]

    def __str__(self) -> str:
        """As clients keep it: `17-4-0`."""
        return "-".join(map(str, self.positions))

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """From its text; raises `InvalidInput`."""
        parts = text.split("-")
        if len(parts) != len(EVENT_STREAMS) or not all(part.isdecimal() and len(part) < 19 for part in parts):
            raise InvalidInput(f"after must be the cursor of an event, as 17-4-0, not {text[:40]!r}", param="after")
        return cls(tuple(map(int, parts)))


class EventReader:
    """Reads the streams of events.

    Args:
        bus: Has them.
    """

    def __init__(self, bus: Bus) -> None:
        self._streams: Sequence[tuple[EventStreamLimits, EventStream]] = [
            (
                limits,
                bus.stream(limits.name, [limits.subjects], max_bytes=limits.max_bytes, max_age=limits.max_age),
            )
            for limits in EVENT_STREAMS
        ]

    async def newest(self, chosen: EventFilter, limit: int) -> tuple[list[Event], Cursor]:
        """The newest events that are chosen, newest first, and where the streams ended."""
        found: list[Event] = []
        ends: list[int] = []
        for _, stream in self._streams:
            events, end = await _newest(stream, chosen, limit)
            found += events
            ends.append(end)
        found.sort(key=lambda event: event.at, reverse=True)
        return found[:limit], Cursor(tuple(ends))

    async def follow(self, chosen: EventFilter, cursor: Cursor) -> AsyncIterator[tuple[Event, Cursor]]:
        """Events behind a cursor as they are stored, each with the next cursor. Never ends."""
        positions = list(cursor.positions)
        while True:
            quiet = True
            for index, (limits, stream) in enumerate(self._streams):
                for position, message in await stream.after(positions[index], limits.subjects, limit=PAGE):
                    positions[index], quiet = position, False
                    event = _decoded(message)
                    if event is not None and chosen.matches(event):
                        yield event, Cursor(tuple(positions))
            if quiet:
                await asyncio.sleep(POLL_S)

    async def verify(self, known: Mapping[str, tuple[int, str]], now: datetime) -> AuditReport:
        """Check every chain.

        Args:
            known: Numbers and digests of events that an earlier check had, by chain.
            now: In UTC.
        """
        checks = {name: ChainCheck(chain, known.get(name)) for name, chain in CHAINS.items()}
        by_subject = {chain.subject: name for name, chain in CHAINS.items()}
        for limits, stream in self._streams:
            position, size = 0, 0
            while page := await stream.after(position, limits.subjects, limit=PAGE):
                for at, message in page:
                    position = at
                    size += len(message.data)
                    if message.subject in by_subject:
                        checks[by_subject[message.subject]].add(message.data)
                await asyncio.sleep(0)  # requests go on meanwhile
            for name, chain in CHAINS.items():
                if chain.stream == limits:
                    checks[name].end(now, stored=size)
        restored = restored_at(checks["owner"])
        return AuditReport(chains=tuple(check.report(restored) for check in checks.values()))


async def _newest(stream: EventStream, chosen: EventFilter, limit: int) -> tuple[list[Event], int]:
    """The newest chosen events of a stream, and its end."""
    found: list[Event] = []
    end, before = 0, None
    while len(found) < limit:
        page = await stream.last(PAGE, before=before)
        if not page:
            break
        end, before = end or page[-1][0], page[0][0]
        events = [event for _, message in reversed(page) if (event := _decoded(message)) is not None]
        found += filter(chosen.matches, events)
        if chosen.since is not None and events and events[-1].at < chosen.since:
            break
    return found[:limit], end


def _decoded(message: Message) -> Event | None:
    try:
        return Event.decode(message.data)
    except ValidationError as error:
        _log.warning("event.unreadable", subject=message.subject, error=str(error).splitlines()[0])
        return None
