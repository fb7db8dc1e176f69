"""Writes what happened to jobs: the reports of their nodes, and the decisions of the placement."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from shared.audit.records import RecordChanges
from shared.bus.job_events import publish_job_event
from shared.bus.port import Bus
from shared.contracts.job import Job
from shared.errors import Conflict, NotRecorded

_log = structlog.get_logger("llmos.scheduler")


@dataclass(slots=True)
class JobWriter:
    """Writes records of jobs and publishes their changes of state."""

    bus: Bus
    changes: RecordChanges[Job]

    async def write(self, before: Mapping[str, Job], after: Mapping[str, Job]) -> dict[str, Job]:
        """Write the jobs that differ; the records as they are afterwards.

        A record that a request changed or deleted meanwhile is left for the next pass.
        """
        written: dict[str, Job] = {}
        for key, job in after.items():
            written[key] = job
            if job == before.get(key):
                continue
            if not await self._replace(key, before.get(key), job):
                now = self.changes.records.get(key)
                if now is None:
                    del written[key]
                else:
                    written[key] = now
                continue
            await self._publish(before.get(key), job)
        return written

    async def _replace(self, key: str, before: Job | None, job: Job) -> bool:
        """Write the record if it is still `before`."""
        if self.changes.records.get(key) != before:  # a request changed or deleted it since, and this copy knows
            return False
        try:
            moved = before is None or before.state is not job.state
            kind = f"job.{job.state}" if moved else "job.updated"
            await self.changes.write(key, before, job, kind, **detail(job))
        except Conflict:
            return False
        except NotRecorded as error:
            _log.warning("job.not_written", name=key, error=error.message, retrying=True)
            return False
        return True

    async def _publish(self, before: Job | None, job: Job) -> None:
        if before is not None and (before.state, before.message) == (job.state, job.message):
            return
        place = f" on {', '.join(job.nodes)}" if job.nodes else ""
        message = f"{job.state}{place}" + (f": {job.message}" if job.message else "")
        await publish_job_event(self.bus, job.id, "state", message)


def detail(job: Job) -> dict[str, str]:
    """What an event says of a job, beside its state."""
    said = {"job": job.spec.kind, "nodes": ",".join(job.nodes), "attempt": str(job.attempt), "reason": job.message}
    return {name: value for name, value in said.items() if value}
