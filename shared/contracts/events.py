"""Changes of control state, and what happened by itself: events in chains of hashes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from shared.contracts.base import Contract

MAX_DETAIL = 400
"""Characters of one value of an event's detail."""


@dataclass(frozen=True, slots=True)
class EventStreamLimits:
    """A stream of events; the oldest are removed first."""

    name: str
    subjects: str
    """As a pattern."""
    max_bytes: int
    max_age: float
    """Seconds."""


EVENTS_STREAM = "LLMOS_EVENTS"
KEY_EVENTS_STREAM = "LLMOS_KEY_EVENTS"
REFUSALS_STREAM = "LLMOS_REFUSALS"

EVENTS = EventStreamLimits(EVENTS_STREAM, "llmos.v1.events.*", 64 << 20, 90 * 24 * 3600.0)
KEY_EVENTS = EventStreamLimits(KEY_EVENTS_STREAM, "llmos.v1.key_events", 16 << 20, 2 * 365 * 24 * 3600.0)
"""What happened to API keys: no other event pushes it out."""
REFUSALS = EventStreamLimits(REFUSALS_STREAM, "llmos.v1.refusals", 4 << 20, 90 * 24 * 3600.0)
"""Refused logins: however many there are, they push out nothing but one another."""
EVENT_STREAMS = (EVENTS, KEY_EVENTS, REFUSALS)


@dataclass(frozen=True, slots=True)
class Chain:
    """The events of one service, or of one matter: each carries the digest of the one before."""

    name: str
    stream: EventStreamLimits
    subject: str
    writer: str
    """The role on the bus that alone may write it."""


def _of_service(role: str) -> Chain:
    return Chain(role, EVENTS, f"llmos.v1.events.{role}", role)


CHAINS = {
    chain.name: chain
    for chain in (
        _of_service("owner"),
        _of_service("registry"),
        _of_service("scheduler"),
        _of_service("inference"),
        _of_service("gateway"),
        _of_service("monitor"),
        Chain("keys", KEY_EVENTS, KEY_EVENTS.subjects, "gateway"),
        Chain("logins", REFUSALS, REFUSALS.subjects, "gateway"),
    )
}
"""By name. All processes of a service write to one chain."""


class Event(Contract):
    """Who did what, and when."""

    kind: Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.[a-z_]+$")]
    """The thing and what happened to it, in the past tense: `deployment.changed`, `node.lost`."""
    name: str
    """Of the thing."""
    at: datetime
    service: str = ""
    """The chain."""
    actor: str
    """The process that did it, by instance."""
    node: str = ""
    """The machine on which it ran."""
    by: str = ""
    """The API key (its id), the user or the job for which it was done; empty: the service did it by itself."""
    trace_id: str = ""
    """Of the request, in hexadecimal."""
    record: str = ""
    """What was changed, as `bucket/key`; empty: nothing was."""
    before: str | None = None
    """SHA-256 of the record before, in hexadecimal; None: there was none."""
    after: str | None = None
    """SHA-256 of the record after; None: there is none any more."""
    detail: dict[str, str] = Field(default_factory=dict)
    number: int = 0
    """Its place in the chain, from 1; 0: written by an LLMOS without chains."""
    previous: str = ""
    """SHA-256 of the event before it in the chain, as that was stored."""
    previous_at: datetime | None = None
    """When the event before it was written: so an oldest event shows whether that one is gone for its age."""


class EventList(Contract):
    """Events, newest first."""

    events: tuple[Event, ...]
    cursor: str = ""
    """For a follower: where the streams ended when they were read."""


class ChainReport(Contract):
    """What the check of one chain found."""

    chain: str
    events: int
    """How many there are."""
    first: int = 0
    """The number of the oldest; those before have reached the limits of the stream. 0: there is none."""
    last: int = 0
    """The number of the newest."""
    digest: str = ""
    """SHA-256 of the newest: kept elsewhere, it proves later that nothing up to it was altered."""
    findings: tuple[str, ...] = ()
    """Each names the event."""


class AuditReport(Contract):
    """What the check of all chains found."""

    chains: tuple[ChainReport, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is missing or altered."""
        return not any(chain.findings for chain in self.chains)


Event.EXAMPLE = Event(
    kind="deployment.changed",
    name="smollm2",
    at=datetime.fromisoformat("2026-11-24T12:00:00+00:00"),
    service="scheduler",
    actor="scheduler-3f2a",
    node="box-1",
    by="key-4d2f",
    trace_id="0af7651916cd43dd8448eb211c80319c",
    record="LLMOS_DEPLOYMENTS/smollm2",
    before="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    after="60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    detail={"version": "smollm2:1", "replicas": "1"},
    number=17,
    previous="fd61a03af4f77d870fc21e05e7e80678095c92d808cfb3b5c279ee04c74aca13",
    previous_at=datetime.fromisoformat("2026-11-24T11:58:00+00:00"),
)
EventList.EXAMPLE = EventList(events=(Event.EXAMPLE,), cursor="17-4-0")
ChainReport.EXAMPLE = ChainReport(
    chain="scheduler",
    events=17,
    first=1,
    last=17,
    digest="fd61a03af4f77d870fc21e05e7e80678095c92d808cfb3b5c279ee04c74aca13",
)
AuditReport.EXAMPLE = AuditReport(chains=(ChainReport.EXAMPLE,))
