"""The part of the client that is about jobs."""

from collections.abc import Iterator

from llmos.transport import Transport, admin_path
from shared.contracts.job import CreateJob, Desired, Job, JobEvent, JobList

_VERBS = {Desired.PAUSE: "pause", Desired.RUN: "resume", Desired.CANCEL: "cancel"}


class Jobs:
    """Jobs of one gateway. Errors are those of `shared.errors`."""

    def __init__(self, gateway: Transport) -> None:
        self._gateway = gateway

    def create(self, request: CreateJob) -> Job:
        """Queue a job."""
        body = request.model_dump(mode="json", exclude_none=True)
        return self._gateway.call(Job, "POST", "jobs", body=body)

    def list(self) -> list[Job]:
        """All jobs, the newest first."""
        return list(self._gateway.call(JobList, "GET", "jobs").jobs)

    def show(self, job_id: str) -> Job:
        """One job."""
        return self._gateway.call(Job, "GET", "jobs", job_id)

    def change(self, job_id: str, desired: Desired) -> Job:
        """Pause, resume or cancel a job."""
        return self._gateway.call(Job, "POST", "jobs", job_id, _VERBS[desired])

    def delete(self, job_id: str) -> None:
        """Forget a job that has finished."""
        self._gateway.send("DELETE", admin_path("jobs", job_id))

    def events(self, job_id: str, *, follow: bool = True) -> Iterator[JobEvent]:
        """What happened in a job from its beginning; with `follow` until it has finished."""
        path = f"{admin_path('jobs', job_id, 'events')}?follow={'true' if follow else 'false'}"
        for event, _ in self._gateway.events(path):
            with self._gateway.understood():
                found = JobEvent.model_validate(event)
            yield found
