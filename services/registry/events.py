"""The registry's events: what it changed."""

from datetime import datetime

import structlog

from shared.bus.port import Bus
from shared.bus.rpc import publish
from shared.contracts.events import Event, event_subject

_log = structlog.get_logger("llmos.registry")


async def publish_event(bus: Bus, kind: str, name: str, *, actor: str, at: datetime, **detail: str) -> None:
    """Publish that `actor` did `kind` to the thing called `name`, and log it. Fire and forget."""
    _log.info(kind, name=name, **detail)
    await publish(
        bus, event_subject("registry", kind), Event(kind=kind, name=name, actor=actor, at=at, detail=detail)
    )
