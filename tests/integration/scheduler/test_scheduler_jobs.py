"""Jobs through a scheduler on a real bus: placed, reported, preempted, handed over."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from shared.bus.job_events import job_event_stream
from shared.bus.leases import Lease
from shared.bus.rpc import call
from shared.contracts.base import Empty
from shared.contracts.job import (
    CHANGE_JOB,
    CREATE_JOB,
    DELETE_JOB,
    JOB_RUNS_BUCKET,
    JOBS_BUCKET,
    LIST_JOBS,
    SHOW_JOB,
    STOPPED_EXIT_CODE,
    ChangeJob,
    Checkpoint,
    CreateJob,
    DeployState,
    Desired,
    JobEvent,
    JobName,
    JobRun,
    JobSpec,
    JobState,
    Progress,
    RunState,
    Upload,
    job_events_subject,
)
from shared.contracts.manifest import Kind
from shared.contracts.resources import Resources
from shared.contracts.scheduler import (
    ASSIGNMENTS_BUCKET,
    DEPLOY,
    SHOW_DEPLOYMENT,
    Deploy,
    DeploymentName,
    NodeAssignment,
)
from shared.errors import Conflict, InvalidInput, NoResponders, NotFound
from tests.support.factories.jobs import CREATED, job_of
from tests.support.factories.scheduling import GIB
from tests.support.fakes.node import FakeNode
from tests.support.harness.wait import eventually

pytestmark = pytest.mark.usefixtures("scheduler")

TIMEOUT = 10.0


async def ask(bus, endpoint, request):
    """As a client does that waits until a scheduler leads."""

    async def answer():
        with suppress(NoResponders):
            return [await call(bus, endpoint, request, timeout=TIMEOUT)]

    return (await eventually(answer))[0]


async def create(bus, *, memory: int = GIB, **fields):
    given = {"kind": "run", "command": ("true",), **fields}
    request = CreateJob(resources=Resources(memory=memory, threads=0), **given)
    return await ask(bus, CREATE_JOB, request)


async def state(bus, job_id: str) -> JobState:
    return (await ask(bus, SHOW_JOB, JobName(id=job_id))).state


async def reaches(bus, job_id: str, desired: JobState) -> None:
    async def reached() -> bool:
        return await state(bus, job_id) is desired

    await eventually(reached)


async def says(bus, job_id: str, text: str) -> None:
    async def said() -> bool:
        return text in (await ask(bus, SHOW_JOB, JobName(id=job_id))).message

    await eventually(said)


async def assigned(bus, node: str) -> NodeAssignment:
    entry = await bus.kv(ASSIGNMENTS_BUCKET).get(node)
    return NodeAssignment.decode(entry.value) if entry else NodeAssignment(node=node)


def run_lease(bus, job, state_: RunState, **fields) -> Lease:
    run = JobRun(id=job.id, node=job.nodes[0], attempt=job.attempt, state=state_, **fields)
    return Lease(bus.kv(JOB_RUNS_BUCKET), run.key, run.encode(), every=0.2)


async def test_a_job_is_placed_runs_and_succeeds_with_its_story_in_the_stream(bus, nodes):
    await nodes("a")
    job = await create(bus)
    assert (job.state, job.nodes) == (JobState.STARTING, ("a",))

    async def there() -> bool:
        return [one.id for one in (await assigned(bus, "a")).jobs] == [job.id]

    await eventually(there)
    async with run_lease(bus, job, RunState.RUNNING, progress=Progress(step=3, steps=9)).running() as lease:
        await reaches(bus, job.id, JobState.RUNNING)
        assert (await ask(bus, SHOW_JOB, JobName(id=job.id))).progress.step == 3
        ended = JobRun(id=job.id, node="a", attempt=1, state=RunState.ENDED, exit_code=0, results=("model helper:1",))
        await lease.set(ended.encode())
        await reaches(bus, job.id, JobState.SUCCEEDED)
    done = await ask(bus, SHOW_JOB, JobName(id=job.id))
    assert (done.results, done.nodes, done.finished_at is not None) == (("model helper:1",), (), True)
    assert (await assigned(bus, "a")).jobs == ()
    events = await job_event_stream(bus).after(0, job_events_subject(job.id), limit=99)
    assert [JobEvent.decode(message.data).message for _, message in events] == [
        "queued",
        "starting on a",
        "running on a",
        "succeeded",
    ]


async def test_a_job_waits_for_room_and_says_why(bus, nodes):
    await nodes("a", memory=GIB)
    job = await create(bus, memory=2 * GIB)
    assert job.state is JobState.QUEUED
    assert "no node has 2.0 GiB free: a has 1.0 GiB" in job.message
    await nodes("b", memory=2 * GIB)
    await reaches(bus, job.id, JobState.STARTING)


async def test_a_training_on_two_nodes_waits_until_both_are_there(bus, nodes):
    await nodes("a")
    job = await create(bus, kind="train", node_count=2)
    assert (job.state, job.nodes) == (JobState.QUEUED, ())
    assert "needs 2 nodes, 1 is up" in job.message
    await nodes("b", training_address="10.0.0.2")
    await says(bus, job.id, "needs 2 nodes that reach one another")
    await nodes("c", training_address="10.0.0.3")
    await reaches(bus, job.id, JobState.STARTING)
    assert set((await ask(bus, SHOW_JOB, JobName(id=job.id))).nodes) == {"b", "c"}


async def test_only_a_training_on_stored_datasets_runs_on_several_nodes(bus, nodes):
    await nodes("a")
    uploaded = Upload(file=Upload.EXAMPLE.file, name="rows.jsonl")
    for fields in ({}, {"kind": "evaluate"}, {"kind": "train", "uploads": (uploaded,)}):
        with pytest.raises(InvalidInput, match="only a training on stored datasets runs on several nodes") as refused:
            await create(bus, node_count=2, **fields)
        assert refused.value.param == "node_count"
    assert (await ask(bus, LIST_JOBS, Empty())).jobs == ()


async def test_a_deployment_preempts_a_job_which_goes_on_from_its_checkpoint(bus, nodes):
    await nodes("a", memory=3 * GIB)
    job = await create(bus, memory=2 * GIB)
    checkpoint = Checkpoint(step=7, files=())
    async with run_lease(bus, job, RunState.RUNNING, checkpoint=checkpoint).running() as lease:
        await reaches(bus, job.id, JobState.RUNNING)
        status = await ask(bus, DEPLOY, Deploy(reference="smollm2:1", slots=4, max_len=8192))
        need = status.deployment.resources.memory
        assert GIB < need <= 3 * GIB, "the deployment must need the job's room"
        await reaches(bus, job.id, JobState.STOPPING)
        ended = JobRun(
            id=job.id,
            node="a",
            attempt=1,
            state=RunState.ENDED,
            exit_code=STOPPED_EXIT_CODE,
            checkpoint=checkpoint,
        )
        await lease.set(ended.encode())
        await reaches(bus, job.id, JobState.QUEUED)
    record = await ask(bus, SHOW_JOB, JobName(id=job.id))
    assert (record.preemptions, record.failures, record.checkpoint.step) == (1, 0, 7)
    await nodes("b", memory=3 * GIB)
    await reaches(bus, job.id, JobState.STARTING)
    (again,) = (await assigned(bus, "b")).jobs
    assert (again.attempt, again.checkpoint.step) == (2, 7)


async def test_the_job_of_a_node_that_dies_goes_to_another(bus, nodes):
    await nodes("b", memory=GIB // 2)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(FakeNode(bus, "a").running())
        job = await create(bus)
        assert job.nodes == ("a",)
        async with run_lease(bus, job, RunState.RUNNING, checkpoint=Checkpoint(step=4, files=())).running():
            await reaches(bus, job.id, JobState.RUNNING)
    await nodes("c")
    await reaches(bus, job.id, JobState.STARTING)
    moved = await ask(bus, SHOW_JOB, JobName(id=job.id))
    assert (moved.nodes, moved.attempt, moved.checkpoint.step) == (("c",), 2, 4)


async def test_pause_resume_and_cancel(bus, nodes):
    await nodes("a")
    job = await create(bus)
    async with run_lease(bus, job, RunState.RUNNING).running() as lease:
        await reaches(bus, job.id, JobState.RUNNING)
        paused = await ask(bus, CHANGE_JOB, ChangeJob(id=job.id, desired=Desired.PAUSE))
        assert paused.state is JobState.STOPPING

        async def instructed() -> bool:
            return [one.stop for one in (await assigned(bus, "a")).jobs] == ["checkpoint"]

        await eventually(instructed)
        ended = JobRun(id=job.id, node="a", attempt=1, state=RunState.ENDED, exit_code=STOPPED_EXIT_CODE)
        await lease.set(ended.encode())
        await reaches(bus, job.id, JobState.PAUSED)
    resumed = await ask(bus, CHANGE_JOB, ChangeJob(id=job.id, desired=Desired.RUN))
    assert (resumed.state, resumed.attempt) == (JobState.STARTING, 2)
    async with run_lease(bus, resumed, RunState.RUNNING).running() as lease:
        await ask(bus, CHANGE_JOB, ChangeJob(id=job.id, desired=Desired.CANCEL))
        killed = JobRun(id=job.id, node="a", attempt=2, state=RunState.ENDED, exit_code=-9)
        await lease.set(killed.encode())
        await reaches(bus, job.id, JobState.CANCELLED)
    with pytest.raises(Conflict, match="has cancelled; it can't be resumed"):
        await ask(bus, CHANGE_JOB, ChangeJob(id=job.id, desired=Desired.RUN))
    await ask(bus, DELETE_JOB, JobName(id=job.id))
    assert (await ask(bus, LIST_JOBS, Empty())).jobs == ()


async def test_wrong_requests_are_refused_by_name(bus, nodes):
    await nodes("a")
    with pytest.raises(InvalidInput, match="needs the command"):
        await ask(bus, CREATE_JOB, CreateJob(kind="run", resources=Resources(memory=GIB, threads=0)))
    with pytest.raises(NotFound, match="smollm2:9"):
        await create(bus, base="smollm2:9")
    with pytest.raises(InvalidInput, match="is not a model reference"):
        await create(bus, base="SmolLM2")
    with pytest.raises(NotFound, match="there is no job 'run-x'; the newest: none"):
        await ask(bus, SHOW_JOB, JobName(id="run-x"))


async def test_the_same_request_makes_one_job(bus, nodes):
    await nodes("a")
    first, again = await create(bus, request_id="r1"), await create(bus, request_id="r1")
    assert first.id == again.id
    pinned = await create(bus, base="smollm2", request_id="r2")
    assert pinned.spec.base.reference == "smollm2:2"
    running = await ask(bus, LIST_JOBS, Empty())
    assert len(running.jobs) == 2
    await asyncio.gather(
        *(ask(bus, CHANGE_JOB, ChangeJob(id=job.id, desired=Desired.CANCEL)) for job in running.jobs)
    )


async def test_what_a_job_made_is_deployed_even_if_schedulers_end_on_the_way(bus, nodes):
    """One ended before it made the deployment, one before it wrote that down: the next goes on."""
    await nodes("a", memory=64 * GIB)
    spec = JobSpec(kind="train", deploy="helper", result=Kind.MODEL, result_name="smollm2")
    fields = {"state": JobState.SUCCEEDED, "deployed": DeployState.PENDING, "results": ("model smollm2:1",)}
    kv = bus.kv(JOBS_BUCKET)
    there = await ask(bus, DEPLOY, Deploy(reference="smollm2:1", name="train-b"))
    for name in ("train-a", "train-b"):
        job = job_of(name, spec=spec, attempt=1, finished_at=CREATED, **fields)
        await kv.put(name, job.model_copy(update={"spec": spec.model_copy(update={"deploy": name})}).encode())

    async def ready() -> bool:
        jobs = (await ask(bus, LIST_JOBS, Empty())).jobs
        return [job.deployed for job in jobs] == [DeployState.READY] * 2

    await eventually(ready)
    for name in ("train-a", "train-b"):
        deployment = (await ask(bus, SHOW_DEPLOYMENT, DeploymentName(name=name))).deployment
        assert (deployment.model, deployment.version, deployment.revision) == ("smollm2", 1, 1)
    assert (await ask(bus, SHOW_JOB, JobName(id="train-b"))).message == "deployed as train-b"
    assert there.deployment.created_at == deployment.created_at


async def test_a_result_that_cannot_be_deployed_says_why(bus, nodes):
    await nodes("a")
    spec = JobSpec(kind="train", deploy="helper", result=Kind.MODEL, result_name="gone")
    fields = {"state": JobState.SUCCEEDED, "deployed": DeployState.PENDING}
    await ask(bus, DEPLOY, Deploy(reference="smollm2:2", name="taken"))
    results = {"gone": ("model gone:1",), "nothing": ("dataset helper:1",), "taken": ("model smollm2:1",)}
    for name, made in results.items():
        job = job_of(name, spec=spec, attempt=1, finished_at=CREATED, results=made, **fields)
        job = job.model_copy(update={"spec": spec.model_copy(update={"deploy": name})})
        await bus.kv(JOBS_BUCKET).put(name, job.encode())
    messages = {
        "gone": "no version 'gone:1': there are smollm2:1, smollm2:2",
        "nothing": "the job made no model",
        "taken": "the name is taken by a deployment of smollm2:2",
    }

    async def refused() -> bool:
        jobs = {job.id: job for job in (await ask(bus, LIST_JOBS, Empty())).jobs}
        return {name: job.message for name, job in jobs.items() if job.deployed is DeployState.FAILED} == {
            name: f"not deployed as {name}: {reason}" for name, reason in messages.items()
        }

    await eventually(refused)


async def test_names_that_are_taken_are_refused(bus, nodes):
    await nodes("a")
    await ask(bus, DEPLOY, Deploy(reference="smollm2:1", name="prod"))
    given = {"result": Kind.MODEL, "result_name": "helper", "deploy": "helper"}
    await create(bus, id="ftjob-1", **given)
    for fields, param in (
        ({**given, "deploy": "prod"}, "deploy"),
        (given, "deploy"),
        ({"id": "ftjob-1"}, "id"),
    ):
        with pytest.raises(Conflict) as taken:
            await create(bus, **fields)
        assert taken.value.param == param
    for fields, param in (
        ({**given, "deploy": "other", "result": Kind.DATASET}, "deploy"),
        ({"uploads": (Upload.EXAMPLE,)}, "result_name"),
        ({"uploads": (Upload.EXAMPLE,), "datasets": ("rows",), "result_name": "a"}, "uploads"),
    ):
        with pytest.raises(InvalidInput) as wrong:
            await create(bus, **fields)
        assert wrong.value.param == param
    await ask(bus, CHANGE_JOB, ChangeJob(id="ftjob-1", desired=Desired.CANCEL))
    await eventually(lambda: _cancelled(bus))
    assert (await create(bus, **given)).spec.deploy == "helper"


async def _cancelled(bus) -> bool:
    return await state(bus, "ftjob-1") is JobState.CANCELLED
