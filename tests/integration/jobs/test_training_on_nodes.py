"""A training on two nodes: real agents, real launchers, real processes that sum their gradients."""

import os
import signal
import subprocess
import time

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from shared.contracts.job import Desired, JobState
from shared.contracts.scheduler import DEPLOY, UNDEPLOY, Deploy, DeploymentName
from shared.service.python import python_module
from tests.support.factories.scheduling import GIB
from tests.support.harness.wait import eventually
from tests.support.train.jobs import base_version, manifest_of, recipe, rows_version, weights
from tests.support.train.nano_runs import texts, turns
from tests.support.train.running import WAIT_S, begins, listening, passes, processes, stored, succeeds, train

pytestmark = [pytest.mark.train, pytest.mark.timeout(900)]

LONG = 80
"""Steps of a run that is interrupted."""
ENDLESS = 100_000
TWO_NODES = "nodes = 2\n"
TWO_PROCESSES = "processes = 2\n"
DROPOUT = "\n[adapter]\ndropout = 0.1\n"
CANCELLED_WITHIN_S = 5.0


async def given(system, rows=None, kind="turns"):
    await base_version(system, system.folder)
    await rows_version(system, turns() if rows is None else rows, kind=kind)


async def two_nodes(system, **settings):
    for node in ("node-a", "node-b"):
        await system.start_agent(node, **settings)


async def gang(system, text, **fields):
    return await train(system, text, node_count=2, **fields)


async def digest(system, name: str) -> str:
    return weights(await manifest_of(system.store, name))


def agent(system, node: str) -> subprocess.Popen:
    environment = {
        **os.environ,
        "LLMOS_NATS_URL": system.url,
        "LLMOS_INFERENCE_NODE_ID": node,
        "LLMOS_INFERENCE_MEMORY": str(4 * GIB),
        "LLMOS_INFERENCE_JOB_DIR": str(system.folder / f"jobs-{node}"),
    }
    return subprocess.Popen(python_module("services.inference"), env=environment)


@pytest.mark.parametrize("head", ["", 'weights = "full"\n'], ids=["adapter", "sharded"])
async def test_two_nodes_make_the_same_weights_to_the_bit_as_two_processes_of_one(system, head):
    await given(system)
    await two_nodes(system)
    job = await gang(system, recipe(head=head, tail=TWO_NODES))
    done = await succeeds(system, job)
    assert (done.attempt, done.failures, done.results) == (1, 0, ("model helper:1",))
    assert (done.progress.step, done.progress.steps) == (6, 6)
    await succeeds(system, await train(system, recipe(head=head, tail=TWO_PROCESSES), name="alone", threads=2))
    assert await digest(system, "helper") == await digest(system, "alone")


async def test_a_node_that_dies_half_way_changes_no_bit(system):
    """The training goes on from its last checkpoint, on the nodes there are then."""
    await given(system)
    await system.start_agent("node-a")
    with agent(system, "node-b") as dies:
        try:
            job = await gang(system, recipe(LONG, tail=TWO_NODES + DROPOUT), retries=0)
            await passes(system, job, 5)
            left = (await stored(system, job)).step
        finally:
            dies.kill()
    waiting = await system.reaches(job.id, JobState.QUEUED, timeout=WAIT_S)
    assert waiting.failures == 0, "the loss of a node costs no retry"
    assert "node-b was lost; continues from step" in waiting.message
    await eventually(lambda: not processes(job, "devtools.train"))

    async def waits() -> bool:
        return "waits: needs 2 nodes, 1 is up" in (await system.job(job.id)).message

    await eventually(waits)
    await system.start_agent("node-c")
    await succeeds(system, job)
    first, second = await begins(system, job)
    assert (first, left <= second) == (0, True)
    whole = recipe(LONG, tail=TWO_PROCESSES + DROPOUT)
    await succeeds(system, await train(system, whole, name="whole", threads=2))
    assert await digest(system, "helper") == await digest(system, "whole")


async def test_a_process_that_fails_on_one_node_ends_the_attempt_on_both(system):
    await given(system)
    await two_nodes(system)
    job = await gang(system, recipe(ENDLESS, 200, tail=TWO_NODES), retries=1)
    record = await passes(system, job, 1)
    started = processes(job, "devtools.jobs.run")
    assert len(started) == 2
    for attempt in (1, 2):
        other = next(
            one for one in processes(job, "devtools.jobs.run") if f"jobs-{record.nodes[1]}/" in one.cmdline()[-1]
        )
        os.kill(other.pid, signal.SIGKILL)
        if attempt == 1:

            async def again() -> bool:
                now = await system.job(job.id)
                return (now.attempt, now.state) == (2, JobState.RUNNING)

            await eventually(again, timeout=WAIT_S)
    failed = await system.reaches(job.id, JobState.FAILED, timeout=WAIT_S)
    assert (failed.attempt, failed.failures) == (2, 2)
    assert f"{record.nodes[1]}: killed by SIGKILL" in failed.message
    await eventually(lambda: not processes(job, "devtools.train"))


async def test_pause_resume_and_cancel_act_on_all_nodes(system):
    await given(system)
    await two_nodes(system)
    job = await gang(system, recipe(ENDLESS, 200, tail=TWO_NODES))
    await passes(system, job, 1)
    await system.change(job.id, Desired.PAUSE)
    paused = await system.reaches(job.id, JobState.PAUSED, timeout=WAIT_S)
    assert paused.checkpoint.step > 0
    assert not processes(job, "devtools.train")
    assert not processes(job, "devtools.jobs.run")
    await system.change(job.id, Desired.RUN)
    await passes(system, job, paused.checkpoint.step + 1)
    assert (await begins(system, job))[1] == paused.checkpoint.step
    asked = time.monotonic()
    await system.change(job.id, Desired.CANCEL)
    await system.reaches(job.id, JobState.CANCELLED)
    assert time.monotonic() - asked < CANCELLED_WITHIN_S
    assert not processes(job, "devtools.train")


async def test_a_deployment_that_needs_the_room_on_one_node_stops_the_job_on_both(system, monkeypatch):
    monkeypatch.setenv("LLMOS_NATS_URL", system.url)
    await given(system)
    await two_nodes(system, memory=GIB)
    job = await gang(system, recipe(ENDLESS, 200, tail=TWO_NODES), memory=GIB * 9 // 10)
    await passes(system, job, 1)
    await system.ask(DEPLOY, Deploy(reference="tiny", name="chat", slots=2, max_len=128, prefix_cache=0))
    waiting = await system.reaches(job.id, JobState.QUEUED, timeout=WAIT_S)
    assert waiting.preemptions == 1
    assert waiting.checkpoint.step > 0

    async def waits() -> bool:
        return "needs 2 nodes with 0.9 GiB and 1 thread free, 1 has" in (await system.job(job.id)).message

    await eventually(waits)
    await system.ask(UNDEPLOY, DeploymentName(name="chat"))
    await passes(system, job, waiting.checkpoint.step + 1)
    assert (await begins(system, job))[1] == waiting.checkpoint.step


async def test_a_new_model_begins_alike_on_nodes_without_a_folder_in_common(system):
    await rows_version(system, texts(60), kind="text")
    await two_nodes(system)
    head = 'method = "pretrain"\nweights = "scratch"\n'
    tail = TWO_NODES + "\n[scratch]\nvocab = 300\n"
    job = await gang(system, recipe(3, head=head, tail=tail), base=None)
    done = await succeeds(system, job)
    assert done.attempt == 1


async def test_with_the_address_of_loopback_no_process_listens_on_another(system):
    await given(system)
    await two_nodes(system)
    text = recipe(ENDLESS, 200, tail=TWO_NODES + TWO_PROCESSES)
    job = await gang(system, text, threads=2)
    await passes(system, job, 1)
    assert listening(processes(job, "devtools.jobs.run")) == {"127.0.0.1"}
    workers = [one for one in processes(job, "devtools.train") if "devtools.train.launch" not in one.cmdline()]
    assert len(workers) == 4
    await system.change(job.id, Desired.CANCEL)
    await system.reaches(job.id, JobState.CANCELLED)


async def test_a_recipe_with_another_number_of_nodes_than_the_job_is_refused(system):
    await given(system)
    await two_nodes(system)
    job = await train(system, recipe(tail=TWO_NODES))
    failed = await system.reaches(job.id, JobState.FAILED, timeout=WAIT_S)
    assert failed.attempt == 1
    assert "recipe, [job]: nodes is 2, and the job was asked for 1 nodes" in failed.message
