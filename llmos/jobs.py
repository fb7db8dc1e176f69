"""The part of the client that is about jobs."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from shared.contracts.job import CreateJob, Desired, Job, JobEvent, JobList

_VERBS = {Desired.PAUSE: "pause", Desired.RUN: "resume", Desired.CANCEL: "cancel"}


class Jobs:
    """Jobs of one gateway. Errors are those of `shared.errors`.

    Args:
        call: Makes a request; answers the body of the response.
        events: Opens a stream of server-sent events; yields each one's data.
    """

    def __init__(self, call: Callable[..., bytes], events: Callable[[str], Iterator[bytes]]) -> None:
        self._call = call
        self._events = events

    def create(self, request: CreateJob) -> Job:
        """Queue a job."""
        return Job.decode(self._call("POST", "/llmos/v1/jobs", request.model_dump(mode="json", exclude_none=True)))

    def list(self) -> list[Job]:
        """All jobs, the newest first."""
        return list(JobList.decode(self._call("GET", "/llmos/v1/jobs")).jobs)

    def show(self, job_id: str) -> Job:
        """One job."""
        return Job.decode(self._call("GET", f"/llmos/v1/jobs/{job_id}"))

    def change(self, job_id: str, desired: Desired) -> Job:
        """Pause, resume or cancel a job."""
        return Job.decode(self._call("POST", f"/llmos/v1/jobs/{job_id}/{_VERBS[desired]}"))

    def delete(self, job_id: str) -> None:
        """Forget a job that has finished."""
        self._call("DELETE", f"/llmos/v1/jobs/{job_id}")

    def events(self, job_id: str, *, follow: bool = True) -> Iterator[JobEvent]:
        """What happened in a job from its beginning; with `follow` until it has finished."""
        path = f"/llmos/v1/jobs/{job_id}/events?follow={'true' if follow else 'false'}"
        for data in self._events(path):
            event: dict[str, Any] = orjson.loads(data)
            yield JobEvent.model_validate(event)
