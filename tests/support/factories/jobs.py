"""Jobs with defaults."""

from datetime import UTC, datetime
from typing import Any

from shared.contracts.job import Job, JobSpec
from shared.contracts.resources import Resources

CREATED = datetime(2026, 11, 29, tzinfo=UTC)


def spec_of(node_count: int = 1) -> JobSpec:
    """Of a job that runs `true` on so many nodes."""
    return JobSpec(kind="run", command=("true",), node_count=node_count)


def job_of(job_id: str = "train-a", *, memory: int = 1 << 30, threads: int = 0, **fields: Any) -> Job:
    """A queued job that runs `true`."""
    given = {"spec": spec_of(), "created_at": CREATED, **fields}
    return Job(id=job_id, resources=Resources(memory=memory, threads=threads), **given)
