"""`/llmos/v1/jobs`: queue, look at, pause, resume and cancel jobs, and follow what happens in them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from services.gateway.admin.api import AdminApi
from services.gateway.admin.operations import PREFIX, TAG, strict
from services.gateway.admin.queries import flag
from services.gateway.http.body import parsed, read_body
from services.gateway.http.dialect import json_event
from services.gateway.http.middleware import state_of
from services.gateway.http.operation import STREAM, Operation
from services.gateway.http.stream import Stream
from services.gateway.keys import KeyStore
from shared.bus.job_events import job_event_stream
from shared.bus.port import Bus
from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.gateway import Scope
from shared.contracts.job import (
    CHANGE_JOB,
    CREATE_JOB,
    DELETE_JOB,
    LIST_JOBS,
    SHOW_JOB,
    ChangeJob,
    CreateJob,
    Desired,
    Job,
    JobEvent,
    JobList,
    JobName,
    job_events_subject,
)
from shared.errors import InvalidInput, PermissionDenied

Sent = TypeVar("Sent", bound=Contract)
Received = TypeVar("Received", bound=Contract)

POLL_S = 0.3
"""A follower looks for new events this often."""
_PAGE = 500


class JobsApi:
    """Jobs.

    Args:
        bus: For the events.
        admin: Calls the scheduler.
        keys: The API keys: a command of one's own needs more than training does.
        max_body: Bytes of a request at most.
    """

    def __init__(self, bus: Bus, admin: AdminApi, keys: KeyStore, max_body: int) -> None:
        self._events = job_event_stream(bus)
        self._admin = admin
        self._keys = keys
        self._max_body = max_body

    def operations(self) -> list[Operation]:
        """The routes."""
        jobs, job = f"{PREFIX}/jobs", f"{PREFIX}/jobs/{{id}}"
        query = {"after": "Only events behind this `id`", "follow": "false: end with the newest event"}
        return [
            Operation("GET", jobs, self.list, "All jobs, the newest first", TAG, result=JobList),
            Operation("POST", jobs, self.create, "Queue a job", TAG, body=CreateJob, result=Job),
            Operation("GET", job, self.show, "One job", TAG, result=Job),
            Operation("DELETE", job, self.delete, "Forget a job that has finished", TAG, result=Empty),
            Operation("POST", f"{job}/pause", self.pause, "Save a checkpoint and stop", TAG, result=Job),
            Operation("POST", f"{job}/resume", self.resume, "Go on, or try a failed job again", TAG, result=Job),
            Operation("POST", f"{job}/cancel", self.cancel, "End the job", TAG, result=Job),
            Operation("GET", f"{job}/events", self.events, "What happens in a job", TAG, result=STREAM, query=query),
        ]

    async def list(self, _: Request) -> Response:
        """All jobs."""
        return await self._send(LIST_JOBS, Empty())

    async def create(self, request: Request) -> Response:
        """Queue a job. Raises `PermissionDenied` for a command, unless the key has the scope `admin`."""
        body = await parsed(partial(strict, CreateJob), await read_body(request, self._max_body))
        key = state_of(request.scope).key_id  # None: authentication is off
        if body.kind == "run" and key is not None and Scope.ADMIN not in self._keys.scopes(key):
            raise PermissionDenied("a job of kind 'run' runs any program on a node: it needs the scope 'admin'")
        return await self._send(CREATE_JOB, body.model_copy(update={"owner": key or ""}))

    async def show(self, request: Request) -> Response:
        """One job; raises `NotFound`."""
        return await self._send(SHOW_JOB, JobName(id=request.path_params["id"]))

    async def delete(self, request: Request) -> Response:
        """Forget a job; raises `Conflict` while it has not finished."""
        return await self._send(DELETE_JOB, JobName(id=request.path_params["id"]))

    async def pause(self, request: Request) -> Response:
        """Pause a job."""
        return await self._change(request, Desired.PAUSE)

    async def resume(self, request: Request) -> Response:
        """Resume a job."""
        return await self._change(request, Desired.RUN)

    async def cancel(self, request: Request) -> Response:
        """Cancel a job."""
        return await self._change(request, Desired.CANCEL)

    async def events(self, request: Request) -> ASGIApp:
        """Server-sent events from the job's beginning, or behind `after`, until it has finished."""
        job_id, query = request.path_params["id"], request.query_params
        position = _number(query.get("after", "0"))
        follow = flag(query, "follow", default=True)
        await self._admin.call(SHOW_JOB, JobName(id=job_id))

        @asynccontextmanager
        async def source() -> AsyncIterator[AsyncIterator[bytes]]:
            yield self._follow(job_id, position, follow=follow)

        return Stream(source)

    async def _send(self, endpoint: Endpoint[Sent, Received], message: Sent) -> Response:
        result = await self._admin.call(endpoint, message)
        return Response(result.model_dump_json(), media_type="application/json")

    async def _follow(self, job_id: str, after: int, *, follow: bool) -> AsyncIterator[bytes]:
        subject, position = job_events_subject(job_id), after
        while True:
            # The state first: what happened before the job finished is in the stream by then.
            finished = follow and (await self._admin.call(SHOW_JOB, JobName(id=job_id))).state.finished
            found = await self._events.after(position, subject, limit=_PAGE)
            for position, message in found:
                event = JobEvent.decode(message.data).model_dump(mode="json", exclude_none=True)
                yield json_event({"id": position, **event})
            if not found and (finished or not follow):
                return
            if len(found) < _PAGE:
                await asyncio.sleep(POLL_S)

    async def _change(self, request: Request, desired: Desired) -> Response:
        return await self._send(CHANGE_JOB, ChangeJob(id=request.path_params["id"], desired=desired))


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise InvalidInput(f"after must be the id of an event, not {text[:40]!r}", param="after")
    return int(text)
