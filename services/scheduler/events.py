"""The event stream, and the scheduler's events in it."""

from datetime import UTC, datetime

import structlog

from shared.bus.job_events import job_event_stream
from shared.bus.port import Bus
from shared.bus.rpc import publish
from shared.contracts.events import EVENTS_MAX_AGE_S, EVENTS_MAX_BYTES, Event, event_subject
from shared.contracts.scheduler import EVENTS_STREAM, EVENTS_SUBJECT
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.scheduler")


async def ensure_event_streams(bus: Bus) -> None:
    """Make the streams that store the events of the system and of jobs, unless they exist."""
    stream = bus.stream(EVENTS_STREAM, [f"{EVENTS_SUBJECT}.>"], max_bytes=EVENTS_MAX_BYTES, max_age=EVENTS_MAX_AGE_S)
    try:
        await stream.last(1)
        await job_event_stream(bus).last(1)
    except LlmosError as error:
        _log.warning("events.not_stored", error=error.message)


async def publish_event(bus: Bus, actor: str, kind: str, name: str, **detail: str) -> None:
    """Publish that `actor` did `kind` to the thing called `name`, and log it. Fire and forget."""
    _log.info(kind, name=name, **detail)
    event = Event(kind=kind, name=name, actor=actor, at=datetime.now(UTC), detail=detail)
    await publish(bus, event_subject(kind), event)
