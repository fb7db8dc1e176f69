"""The stream of what happened in jobs."""

from datetime import UTC, datetime

from shared.bus.port import Bus, EventStream
from shared.bus.rpc import publish
from shared.contracts.job import (
    JOB_EVENTS_MAX_AGE_S,
    JOB_EVENTS_MAX_BYTES,
    JOB_EVENTS_STREAM,
    JOB_EVENTS_SUBJECT,
    EventKind,
    JobEvent,
    Progress,
    job_events_subject,
)


def job_event_stream(bus: Bus) -> EventStream:
    """The stream."""
    return bus.stream(
        JOB_EVENTS_STREAM,
        [f"{JOB_EVENTS_SUBJECT}.>"],
        max_bytes=JOB_EVENTS_MAX_BYTES,
        max_age=JOB_EVENTS_MAX_AGE_S,
    )


async def publish_job_event(
    bus: Bus, job: str, kind: EventKind, message: str, *, progress: Progress | None = None
) -> None:
    """Publish an event of a job. Fire and forget."""
    event = JobEvent(job=job, kind=kind, message=message, at=datetime.now(UTC), progress=progress)
    await publish(bus, job_events_subject(job), event)
