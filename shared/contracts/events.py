"""Changes of control state, in the stream `LLMOS_EVENTS`."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from shared.contracts.base import Contract
from shared.contracts.scheduler import EVENTS_SUBJECT

EVENTS_MAX_BYTES = 64 * 1024 * 1024
EVENTS_MAX_AGE_S = 90 * 24 * 3600.0
"""Bounds of the stream; the oldest events are removed first."""


class Event(Contract):
    """Who changed what, and when. Published under `event_subject(service, kind)`."""

    kind: Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.[a-z_]+$")]
    """The thing and what happened to it, in the past tense: `deployment.changed`, `node.lost`."""
    name: str
    """Of the thing."""
    actor: str
    """The process that did it, by instance."""
    at: datetime
    detail: dict[str, str] = Field(default_factory=dict)


class EventList(Contract):
    """Events, newest first."""

    events: tuple[Event, ...]


def event_subject(service: str, kind: str) -> str:
    """Where a service publishes its events of `kind`: the bus lets none publish under the name of another."""
    return f"{EVENTS_SUBJECT}.{service}.{kind}"


Event.EXAMPLE = Event(
    kind="deployment.changed",
    name="smollm2",
    actor="scheduler-3f2a",
    at=datetime.fromisoformat("2026-11-24T12:00:00+00:00"),
    detail={"version": "smollm2:1", "replicas": "1"},
)
EventList.EXAMPLE = EventList(events=(Event.EXAMPLE,))
