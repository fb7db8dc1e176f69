"""A scheduler, a registry and a node agent on a real bus; jobs are real processes."""

from contextlib import AsyncExitStack, suppress

import pytest

from services.inference.app import app as agent_app
from services.inference.settings import Settings as AgentSettings
from services.registry.service import RegistryService
from services.scheduler.app import app as scheduler_app
from services.scheduler.settings import Settings as SchedulerSettings
from shared.bus.connect import connect
from shared.bus.job_events import job_event_stream
from shared.bus.rpc import call
from shared.contracts.job import (
    CHANGE_JOB,
    CREATE_JOB,
    SHOW_JOB,
    ChangeJob,
    CreateJob,
    Desired,
    Job,
    JobEvent,
    JobName,
    JobState,
    job_events_subject,
)
from shared.contracts.resources import Resources
from shared.errors import Unavailable
from shared.service.context import Context
from shared.service.readiness import Readiness
from shared.storage.open import open_store
from tests.support.factories.scheduling import GIB
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer

LEASE_TTL_S = 3.0
"""Without a renewal, of which there is one each second, after which a node is lost."""


class System:
    """What a test sees of it."""

    def __init__(self, bus, store, server, folder, stack) -> None:
        self.bus = bus
        self.store = store
        self.url = server.url
        self.port = server.port
        self.folder = folder
        self._stack = stack

    async def ask(self, endpoint, request):
        """As a client does that waits until a scheduler leads."""

        async def answer():
            with suppress(Unavailable):  # also a scheduler that leads no more
                return [await call(self.bus, endpoint, request, timeout=10)]

        return (await eventually(answer))[0]

    async def create(
        self, *command: str, memory: int = GIB // 4, threads: int = 0, kind: str = "run", **fields
    ) -> Job:
        resources = Resources(memory=memory, threads=threads)
        return await self.ask(CREATE_JOB, CreateJob(kind=kind, command=command, resources=resources, **fields))

    async def job(self, job_id: str) -> Job:
        return await self.ask(SHOW_JOB, JobName(id=job_id))

    async def change(self, job_id: str, desired: Desired) -> Job:
        return await self.ask(CHANGE_JOB, ChangeJob(id=job_id, desired=desired))

    async def reaches(self, job_id: str, state: JobState, timeout: float = 30.0) -> Job:
        async def reached():
            job = await self.job(job_id)
            if job.state.finished and job.state is not state:
                raise RuntimeError(f"the job has {job.state}: {job.message}\n" + "\n".join(await self.log(job_id)))
            return [job] if job.state is state else None

        return (await eventually(reached, timeout=timeout))[0]

    async def log(self, job_id: str) -> list[str]:
        found = await job_event_stream(self.bus).after(0, job_events_subject(job_id), limit=1000)
        events = [JobEvent.decode(message.data) for _, message in found]
        return [event.message for event in events if event.kind == "log"]

    async def start_agent(self, node: str = "node-a", **settings):
        """A node agent; a context that ends with the test, or before it by `aclose`."""
        stack = await self._stack.enter_async_context(AsyncExitStack())
        bus = await connect(self.url, name=f"agent-{node}")
        stack.push_async_callback(bus.drain)
        given = {
            "node_id": node,
            "memory": 4 * GIB,
            "threads": 2,
            "log_dir": self.folder / "logs",
            "job_dir": self.folder / f"jobs-{node}",
            **settings,
        }
        context = Context("inference", f"agent-{node}", bus, Readiness())
        await stack.enter_async_context(agent_app(context, AgentSettings(nats_url=self.url, **given)))
        return stack


@pytest.fixture
async def system(tmp_path, monkeypatch):
    store_url = (tmp_path / "store").as_uri()
    monkeypatch.setenv("LLMOS_STORE_URL", store_url)
    monkeypatch.setenv("LLMOS_CACHE_DIR", str(tmp_path / "cache"))
    async with AsyncExitStack() as stack:
        server = stack.enter_context(NatsServer())
        buses = []
        for name in ("test", "registry", "scheduler"):
            bus = await connect(server.url, name=name)
            stack.push_async_callback(bus.drain)
            buses.append(bus)
        store = open_store(store_url)
        await stack.enter_async_context(RegistryService(buses[1], store, actor="registry").running())
        context = Context("scheduler", "scheduler-a", buses[2], Readiness())
        await stack.enter_async_context(scheduler_app(context, SchedulerSettings(), ttl=LEASE_TTL_S))
        yield System(buses[0], store, server, tmp_path, stack)
