"""The routes of `/v1/fine_tuning/jobs`."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.control_plane import ControlPlane
from services.gateway.http.body import parse_body, parsed, read_body
from services.gateway.http.middleware import state_of
from services.gateway.http.operation import Operation
from services.gateway.http.responses import json_response
from services.gateway.openai.fine_tuning.creation import JobCreation
from services.gateway.openai.fine_tuning.events import checkpoints_of, events_of
from services.gateway.openai.fine_tuning.requests import FineTuningRequest
from services.gateway.openai.fine_tuning.views import view
from services.gateway.openai.pages import check_query, limit_of, listed, page_of
from shared.bus.job_events import job_event_stream
from shared.bus.port import Bus
from shared.contracts.base import Empty
from shared.contracts.job import CHANGE_JOB, LIST_JOBS, SHOW_JOB, ChangeJob, Desired, Job, JobName
from shared.errors import InvalidInput, NotFound

_PATH = "/v1/fine_tuning/jobs"
_JOB = _PATH + "/{id}"
_TAG = "training"
_MOST = 100
_METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)


class FineTuningApi:
    """Fine-tuning jobs.

    Args:
        bus: Has the events.
        control: Calls the scheduler.
        creation: Makes jobs.
        max_body: Bytes of a request at most.
    """

    def __init__(self, bus: Bus, control: ControlPlane, creation: JobCreation, max_body: int) -> None:
        self._events = job_event_stream(bus)
        self._control = control
        self._creation = creation
        self._max_body = max_body

    def operations(self) -> list[Operation]:
        """The operations."""
        pages = {"after": "The id of the last object of the page before", "limit": f"How many: 1 to {_MOST}"}
        jobs = {**pages, "metadata[key]": "Only jobs whose metadata has this value"}
        return [
            Operation("POST", _PATH, self.create, "Train a model, as OpenAI has it", _TAG, body=FineTuningRequest),
            Operation("GET", _PATH, self.list, "The fine-tuning jobs", _TAG, query=jobs),
            Operation("GET", _JOB, self.show, "A fine-tuning job", _TAG),
            Operation("POST", f"{_JOB}/cancel", self.cancel, "End a fine-tuning job", _TAG),
            Operation("POST", f"{_JOB}/pause", self.pause, "Save a checkpoint and stop", _TAG),
            Operation("POST", f"{_JOB}/resume", self.resume, "Go on", _TAG),
            Operation("GET", f"{_JOB}/events", self.events, "What happened in a job", _TAG, query=pages),
            Operation("GET", f"{_JOB}/checkpoints", self.checkpoints, "A job's checkpoints", _TAG, query=pages),
        ]

    async def create(self, request: Request) -> Response:
        """Queue a job; raises what `JobCreation.create` raises."""
        body = await parsed(partial(parse_body, FineTuningRequest), await read_body(request, self._max_body))
        return _answer(await self._creation.create(body, state_of(request.scope).key_id or ""))

    async def list(self, request: Request) -> Response:
        """A page of the jobs, the newest first."""
        chosen = _metadata(request.query_params)
        check_query(request, "after", "limit", *(f"metadata[{name}]" for name in chosen))
        jobs = [job for job in (await self._control.call(LIST_JOBS, Empty())).jobs if job.fine_tuning is not None]
        matching = [job for job in jobs if job.fine_tuning and chosen.items() <= job.fine_tuning.metadata.items()]
        now = datetime.now(UTC)
        limit = limit_of(request, default=20, most=_MOST)
        return json_response(page_of([view(job, now) for job in matching], request, limit))

    async def show(self, request: Request) -> Response:
        """One job; raises `NotFound`."""
        return _answer(await self._find(request))

    async def cancel(self, request: Request) -> Response:
        """Cancel a job; raises `Conflict` when it has finished."""
        return await self._change(request, Desired.CANCEL)

    async def pause(self, request: Request) -> Response:
        """Pause a job; raises `Conflict` when it has finished."""
        return await self._change(request, Desired.PAUSE)

    async def resume(self, request: Request) -> Response:
        """Resume a job, or try a failed one again."""
        return await self._change(request, Desired.RUN)

    async def events(self, request: Request) -> Response:
        """A page of a job's events, the newest first."""
        check_query(request, "after", "limit")
        limit, after = limit_of(request, default=20, most=_MOST), request.query_params.get("after")
        data, more = await events_of(self._events, await self._find(request), after, limit)
        return json_response(listed(data, more=more))

    async def checkpoints(self, request: Request) -> Response:
        """A page of a job's checkpoints, the newest first."""
        check_query(request, "after", "limit")
        limit, after = limit_of(request, default=10, most=_MOST), request.query_params.get("after")
        data, more = await checkpoints_of(self._events, await self._find(request), after, limit)
        return json_response(listed(data, more=more))

    async def _change(self, request: Request, desired: Desired) -> Response:
        job = await self._find(request)
        return _answer(await self._control.call(CHANGE_JOB, ChangeJob(id=job.id, desired=desired)))

    async def _find(self, request: Request) -> Job:
        job_id = request.path_params["id"]
        job = await self._control.call(SHOW_JOB, JobName(id=job_id))
        if job.fine_tuning is None:
            raise NotFound(f"{job_id} is no fine-tuning job; see /llmos/v1/jobs/{job_id}", param="id")
        return job


def _answer(job: Job) -> Response:
    return json_response(view(job, datetime.now(UTC)))


def _metadata(query: Mapping[str, str]) -> dict[str, str]:
    """What `metadata[key]=value` asks for."""
    if "metadata" in query:
        raise InvalidInput("metadata: write metadata[key]=value", param="metadata")
    return {found[1]: value for name, value in query.items() if (found := _METADATA.fullmatch(name))}
