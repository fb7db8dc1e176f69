"""The scheduler's events: what it changed."""

from datetime import UTC, datetime

import structlog

from shared.bus.port import Bus
from shared.bus.rpc import publish
from shared.contracts.events import Event, event_subject

_log = structlog.get_logger("llmos.scheduler")


async def publish_event(bus: Bus, actor: str, kind: str, name: str, **detail: str) -> None:
    """Publish that `actor` did `kind` to the thing called `name`, and log it. Fire and forget."""
    _log.info(kind, name=name, **detail)
    event = Event(kind=kind, name=name, actor=actor, at=datetime.now(UTC), detail=detail)
    await publish(bus, event_subject("scheduler", kind), event)
