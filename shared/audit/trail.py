"""Writes the events of a process to the chain of its service.

All processes of a service share its chain. An event names the place and the digest of the one before it, and the
server stores it only behind that one, so a process that was slower reads the end of the chain and tries again.
"""

import asyncio
import platform
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from opentelemetry import trace
from pydantic import ValidationError

from shared.audit.caller import caller
from shared.audit.digest import digest
from shared.bus.port import Bus, Message
from shared.contracts.events import MAX_DETAIL, Chain, Event
from shared.errors import Conflict, DeadlineExceeded, Disconnected, LlmosError, NotRecorded, StorageFull

_log = structlog.get_logger("llmos.audit")

TRIES = 50
"""A try fails only when another process's event was stored."""


@dataclass(frozen=True, slots=True)
class Change:
    """A record before and after.

    Args:
        record: `bucket/key`.
        before: Its bytes; None: there is none.
        after: Its bytes; None: it is removed.
    """

    record: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class _Head:
    """The newest event of the chain."""

    position: int = 0
    number: int = 0
    digest: str = ""
    at: datetime | None = None


class Trail:
    """Writes events.

    Args:
        bus: Has the stream.
        chain: Which chain.
        actor: This process, by instance.
        node: The machine it runs on.
        now: The time of day.
    """

    def __init__(
        self,
        bus: Bus,
        chain: Chain,
        *,
        actor: str,
        node: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._chain = chain
        limits = chain.stream
        self._stream = bus.stream(limits.name, [limits.subjects], max_bytes=limits.max_bytes, max_age=limits.max_age)
        self._actor = actor
        self._node = node or platform.node()
        self._now = now
        self._head: _Head | None = None
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def change(
        self, kind: str, name: str, change: Change, /, *, by: str | None = None, **detail: str
    ) -> AsyncIterator[Event]:
        """Record a change; the block makes it.

        If the block raises an error of ours, that is an event too: `change.not_made`, or `change.uncertain` where the
        bus did not say. A crash leaves the event alone: the next event of the record shows by its `before` whether
        the change was made.

        Raises:
            NotRecorded: The event can't be stored; the block does not run.
            StorageFull: There is no room for changes, and this one is no removal; the block does not run.
        """
        event = await self.record(kind, name, change, by=by, **detail)
        try:
            yield event
        except LlmosError as error:
            uncertain = isinstance(error, DeadlineExceeded | Disconnected)
            outcome = "change.uncertain" if uncertain else "change.not_made"
            about = {"of_event": str(event.number), "kind": kind, "reason": error.message}
            await self.note(outcome, name, by=by, **about)
            raise

    async def note(self, kind: str, name: str, /, *, by: str | None = None, **detail: str) -> None:
        """Record what has happened already; a failure is logged."""
        try:
            await self.record(kind, name, by=by, **detail)
        except LlmosError as error:
            _log.warning("event.not_stored", **{**detail, "kind": kind, "name": name, "problem": error.message})

    async def record(
        self, kind: str, name: str, change: Change | None = None, /, *, by: str | None = None, **detail: str
    ) -> Event:
        """Store an event; it is acknowledged on return.

        Args:
            kind: What happened, and to what: `deployment.changed`.
            name: Of the thing.
            change: Of a record, if it is one.
            by: For whom; None: for whom this task works.
            detail: Of this kind. Values above `MAX_DETAIL` characters are cut, and end with their length.

        Raises:
            NotRecorded: It can't be stored now.
            StorageFull: There is no room for changes.
        """
        span = trace.get_current_span().get_span_context()
        event = Event(
            kind=kind,
            name=name,
            at=self._now(),
            service=self._chain.name,
            actor=self._actor,
            node=self._node,
            by=caller() if by is None else by,
            trace_id=trace.format_trace_id(span.trace_id) if span.is_valid else "",
            record=change.record if change else "",
            before=_digest_of(change.before) if change else None,
            after=_digest_of(change.after) if change else None,
            detail={key: _cut(value) for key, value in detail.items()},
        )
        async with self._writing:
            try:
                stored = await self._append(event, removes=change is not None and change.after is None)
            except StorageFull:
                raise
            except LlmosError as error:
                self._head = None
                raise NotRecorded(
                    f"{kind} of {name} was not made: its event can't be stored ({error.message}); try again",
                    retry_after=1.0,
                ) from error
        _log.info(kind, **{**stored.detail, "name": name, "by": stored.by, "number": stored.number})
        return stored

    async def _append(self, event: Event, *, removes: bool) -> Event:
        data = b""
        for _ in range(TRIES):
            head = self._head or await self._end()
            if head.digest and head.digest == digest(data):
                return Event.decode(data)  # the try before was stored, and its acknowledgement lost
            placed = event.model_copy(
                update={"number": head.number + 1, "previous": head.digest, "previous_at": head.at}
            )
            data = placed.encode()
            try:
                position = await self._stream.append(self._chain.subject, data, after=head.position, removes=removes)
            except Conflict:
                self._head = None
                continue
            self._head = _Head(position, placed.number, digest(data), placed.at)
            return placed
        raise Conflict(f"the chain {self._chain.name!r} is being written by others all the time")

    async def _end(self) -> _Head:
        newest = await self._stream.newest(self._chain.subject)
        return _placed(*newest) if newest else _Head()


def _placed(position: int, message: Message) -> _Head:
    try:
        event = Event.decode(message.data)
    except ValidationError:  # `verify` names it; it must not end all changes
        return _Head(position, 0, digest(message.data))
    return _Head(position, event.number, digest(message.data), event.at)


def _digest_of(data: bytes | None) -> str | None:
    return None if data is None else digest(data)


def _cut(value: str) -> str:
    if len(value) <= MAX_DETAIL:
        return value
    return f"{value[:MAX_DETAIL]}… ({len(value)} characters)"
