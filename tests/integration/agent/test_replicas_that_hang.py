"""The agent restarts a replica whose engine has stalled, or whose process says nothing any more."""

import os
import re
import signal
import sys

import pytest

from services.inference.agent import hang
from shared.contracts.scheduler import ReplicaAssignment, ReplicaState, Resources
from shared.contracts.serving import ReplicaOptions
from tests.integration.agent.test_agent_runs_replicas import ONE, until
from tests.support.harness.replicas import FrameClient
from tests.support.harness.wait import eventually

ALTERED = (sys.executable, "-m", "tests.support.fakes.altered_replica")
GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 400}


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(hang, "STALL_RESTART_S", 1.0)


async def test_a_stalled_replica_is_restarted_and_its_log_has_the_stacks(
    bench, agents, small_store, monkeypatch, tmp_path
):
    store, digest = small_store
    stall = tmp_path / "stall"
    for name, value in {
        "LLMOS_STORE_URL": f"file://{store}",
        "LLMOS_CACHE_DIR": str(tmp_path / "cache"),
        "ALTERED_STALL_FILE": str(stall),
        "ALTERED_TOKEN_S": "0.005",
    }.items():
        monkeypatch.setenv(name, value)
    assignment = ReplicaAssignment(
        id="small-1-a",
        deployment="small",
        model="small",
        version=1,
        digest=digest,
        options=ReplicaOptions(slots=2, max_len=512, threads=1, draft_tokens=0),
        resources=Resources(memory=1 << 28, threads=1),
    )
    client = FrameClient(bench.bus)
    await client.start()
    async with agents(replica_command=ALTERED):
        await bench.assign_exactly(assignment)
        await eventually(lambda: state_is(bench, "small-1-a", ReplicaState.READY), 60)
        answer = await client.send("small-1-a", prompt="go", sampling=GREEDY)
        await eventually(lambda: answer.frames)
        stall.touch()
        await eventually(lambda: state_is(bench, "small-1-a", ReplicaState.STALLED), 20)
        failed = await eventually(lambda: failure(bench, "small-1-a"), 20)
        stall.unlink()
        assert failed == "had stalled for 1 s and was killed"
        log = (bench.folder / "logs" / "replica-small-1-a.log").read_text()
        assert log.count("in waits") >= 2, "the thread that hangs, when it was noticed and before it was killed"
        await eventually(lambda: state_is(bench, "small-1-a", ReplicaState.READY), 60)
        assert (await bench.status("small-1-a")).restarts == 1
        assert len((await client.ask("small-1-a", prompt="go", sampling=GREEDY)).token_ids) == 400


async def test_a_replica_whose_process_is_stopped_is_said_to_be_silent_and_restarted(bench, agents):
    async with agents():
        await bench.assign(ONE)
        await until(bench, "r1", "ready")
        (first,) = bench.running("r1")
        os.kill(first, signal.SIGSTOP)
        await eventually(lambda: state_is(bench, "r1", ReplicaState.UNRESPONSIVE), 20)
        status = await bench.status("r1")
        assert re.fullmatch(r"silent for \d+ s; it is restarted after 15 s", status.message)
        assert await eventually(lambda: failure(bench, "r1"), 20) == "was silent for 15 s and was killed"
        assert first not in bench.running("r1")
        await until(bench, "r1", "ready")
        (second,) = bench.running("r1")
        assert second != first


async def test_a_silent_replica_that_goes_on_is_ready_again_and_not_restarted(bench, agents):
    async with agents():
        await bench.assign(ONE)
        await until(bench, "r1", "ready")
        before = bench.running("r1")
        os.kill(before[0], signal.SIGSTOP)
        await eventually(lambda: state_is(bench, "r1", ReplicaState.UNRESPONSIVE), 20)
        os.kill(before[0], signal.SIGCONT)
        await eventually(lambda: state_is(bench, "r1", ReplicaState.READY), 20)
        with pytest.raises(AssertionError, match="not true within"):
            await eventually(lambda: bench.running("r1") != before, 3.0)
        await until(bench, "r1", "ready")


async def test_a_replica_goes_on_when_the_bus_was_away_for_longer_than_it_may_be_silent(bench, server, agents):
    async with agents():
        await bench.assign(ONE)
        await until(bench, "r1", "ready")
        before = bench.running("r1")
        server.kill()
        await eventually(lambda: not bench.bus.connected)
        with pytest.raises(AssertionError, match="not true within"):
            await eventually(lambda: bench.running("r1") != before, 8.0)
        server.start()
        await eventually(lambda: bench.bus.connected)
        await until(bench, "r1", "ready")
        assert bench.running("r1") == before


async def state_is(bench, key, state):
    status = await bench.status(key)
    return status is not None and status.state is state


async def failure(bench, key):
    status = await bench.status(key)
    return status is not None and status.state is ReplicaState.FAILED and status.message
