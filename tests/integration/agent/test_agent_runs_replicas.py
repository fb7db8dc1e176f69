import asyncio
import os
import signal

import psutil
import pytest

from shared.contracts.scheduler import REPLICAS_BUCKET, NodeStatus, ReplicaState, ReplicaStatus
from tests.support.factories.scheduling import GIB, deployment, replica
from tests.support.harness.wait import eventually

ONE = replica("r1", deployment("one"))
TWO = replica("r2", deployment("two"))


async def until(bench, key, state):
    await eventually(lambda: is_(bench, key, state))


async def is_(bench, key, state):
    return await bench.state(key) == state


async def test_the_agent_announces_its_node_and_says_goodbye(bench, agents):
    async with agents(memory=3 * GIB, threads=2):
        entry = await eventually(bench.node)
        status = NodeStatus.decode(entry.value)
        assert (status.capacity.memory, status.capacity.threads) == (3 * GIB, 2)
    assert await bench.node() is None


async def test_an_assigned_replica_runs_within_its_threads(bench, agents):
    async with agents():
        await bench.assign(ONE)
        await until(bench, "r1", "ready")
        (pid,) = bench.running("r1")
        assert psutil.Process(pid).environ()["OMP_NUM_THREADS"] == "4"
        assert (bench.folder / "logs" / "replica-r1.log").exists()


async def test_a_killed_replica_is_failed_with_the_reason_and_started_again(bench, agents):
    seen = []
    async with agents():
        await bench.assign(ONE)
        await until(bench, "r1", "ready")
        watching = asyncio.create_task(record(bench, seen))
        await asyncio.sleep(0)
        (first,) = bench.running("r1")
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: [pid for pid in bench.running("r1") if pid != first])
        await until(bench, "r1", "ready")
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    failed = [status for status in seen if status.state is ReplicaState.FAILED]
    assert failed
    assert failed[0].message.startswith("killed by SIGKILL")


async def record(bench, seen):
    async with bench.bus.kv(REPLICAS_BUCKET).watch() as events:
        async for event in events:
            if event.value:
                seen.append(ReplicaStatus.decode(event.value))


async def test_a_replica_that_crashes_at_start_says_why_and_is_tried_again(bench, agents, monkeypatch):
    monkeypatch.setenv("FAKE_REPLICA_DO", "crash")
    async with agents():
        await bench.assign(ONE)
        await eventually(lambda: len(bench.pids("r1")) >= 2)

        async def says_why():
            status = await bench.status("r1")
            return (
                status.state is ReplicaState.FAILED
                and status.message == "exited with code 3: the fake replica was told to crash"
            )

        await eventually(says_why)


async def test_a_removed_replica_is_asked_to_drain_finishes_and_is_forgotten(bench, agents, monkeypatch):
    monkeypatch.setenv("FAKE_REPLICA_HOLD", "1")
    async with agents():
        await bench.assign(ONE, TWO)
        await until(bench, "r1", "ready")
        await until(bench, "r2", "ready")
        await bench.assign(TWO)
        await until(bench, "r1", "draining")
        (bench.folder / "release").touch()
        await until(bench, "r1", None)
        assert (bench.folder / "r1.asked").exists()
        assert bench.drained("r1")
        await eventually(lambda: bench.running("r1") == [])
        assert len(bench.running("r2")) == 1
        assert await bench.state("r2") == "ready"


async def test_a_replica_that_does_not_finish_its_drain_in_time_is_killed(bench, agents, monkeypatch):
    monkeypatch.setenv("FAKE_REPLICA_HOLD", "1")
    monkeypatch.setattr("services.inference.agent.agent.REPLICA_CLEAN_UP_S", 0.2)
    async with agents(replica_drain_timeout=0.3):
        await bench.assign(ONE)
        await until(bench, "r1", "ready")
        await bench.assign()
        await eventually(lambda: bench.running("r1") == [])
        await until(bench, "r1", None)
        assert not bench.drained("r1")


@pytest.mark.slow
async def test_a_replica_that_takes_anothers_place_starts_when_that_one_has_ended(bench, agents, monkeypatch):
    monkeypatch.setenv("FAKE_REPLICA_HOLD", "1")
    old, new = replica("old", deployment(memory=3 * GIB)), replica("new", deployment(memory=3 * GIB, version=2))
    async with agents():
        await bench.assign(old)
        await until(bench, "old", "ready")
        await bench.assign(new)

        async def waits():
            status = await bench.status("new")
            return status and status.message.endswith("waits for the end of old")

        await eventually(waits)
        assert bench.pids("new") == []
        (bench.folder / "release").touch()
        await until(bench, "new", "ready")
        assert bench.drained("old")


async def test_a_replica_that_loads_for_too_long_is_failed_and_tried_again(bench, agents, monkeypatch):
    monkeypatch.setenv("FAKE_REPLICA_DO", "hang")
    seen = []
    watching = asyncio.create_task(record(bench, seen))
    async with agents(load_timeout=0.5):
        await bench.assign(ONE)
        await eventually(lambda: [status for status in seen if status.restarts])
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert any("was not ready within 0.5 s and was killed" in status.message for status in seen)


async def test_a_program_that_does_not_exist_is_a_failed_replica(bench, agents):
    async with agents(replica_command=("no-such-program",)):
        await bench.assign(ONE)
        await until(bench, "r1", "failed")
        assert "no-such-program" in (await bench.status("r1")).message


async def test_leaving_drains_all_replicas_at_once(bench, agents, monkeypatch):
    async def release_when_both_drain():
        await eventually(lambda: all((bench.folder / f"{each}.asked").exists() for each in ("r1", "r2")))
        (bench.folder / "release").touch()

    monkeypatch.setenv("FAKE_REPLICA_HOLD", "1")
    async with agents():
        await bench.assign(ONE, TWO)
        await until(bench, "r1", "ready")
        await until(bench, "r2", "ready")
        releasing = asyncio.create_task(release_when_both_drain())
    await releasing
    assert bench.drained("r1")
    assert bench.drained("r2")
    assert bench.running("r1") + bench.running("r2") == []
    assert await bench.status("r1") is None


async def test_leaving_kills_what_does_not_drain_in_time(bench, agents, monkeypatch):
    monkeypatch.setenv("FAKE_REPLICA_HOLD", "1")
    async with agents(drain_timeout=1.5):
        await bench.assign(ONE)
        await until(bench, "r1", "ready")
    assert bench.running("r1") == []
    assert not bench.drained("r1")


@pytest.mark.slow
async def test_a_killed_agent_leaves_no_orphan_and_its_successor_goes_on(bench, agents):
    process = await bench.agent_process()
    try:
        await bench.assign(ONE)
        await until(bench, "r1", "ready")
        (first,) = bench.running("r1")
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await eventually(lambda: bench.running("r1") == [])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    async with agents():
        await eventually(lambda: [pid for pid in bench.running("r1") if pid != first])
        await until(bench, "r1", "ready")


async def test_replicas_go_on_while_the_bus_server_is_away(bench, server, agents):
    async with agents():
        await bench.assign(ONE)
        await until(bench, "r1", "ready")
        before = bench.running("r1")
        server.kill()
        server.start()
        await eventually(lambda: bench.bus.connected)
        await until(bench, "r1", "ready")
        await eventually(bench.node)
        assert bench.running("r1") == before


async def test_a_version_that_is_not_in_the_store_is_failed_with_the_reason_and_starts_once_it_is(bench, agents):
    digest = "ab" * 32
    async with agents():
        await bench.assign_exactly(ONE.model_copy(update={"digest": digest}))

        async def reason():
            status = await bench.status(ONE.id)
            return status is not None and status.state is ReplicaState.FAILED and status.message

        assert "the store has no manifest of smollm2:1" in await eventually(reason, 20)
        assert bench.pids(ONE.id) == []
        await bench.assign(ONE)
        await until(bench, ONE.id, "ready")


async def test_a_replica_has_no_secret_of_its_agent_and_another_password_of_the_bus(bench, agents, monkeypatch):
    secrets = {
        "LLMOS_S3_SECRET_KEY": "store-secret",
        "LLMOS_S3_ACCESS_KEY": "store-user",
        "LLMOS_JOB_API_KEY_FILE": "/admin-key",
        "HF_TOKEN": "hub-secret",
        "HTTPS_PROXY": "http://user:proxy-secret@proxy:1",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LLMOS_NATS_URL", bench.url.replace("//", "//inference:agent-secret@"))
    async with agents(replica_nats_url=bench.url.replace("//", "//replica:replica-secret@")):
        await bench.assign(ONE)
        await until(bench, ONE.id, "ready")
        environment = psutil.Process(bench.pids(ONE.id)[-1]).environ()
    assert environment["LLMOS_NATS_URL"].startswith("nats://replica:replica-secret@")
    assert secrets.keys().isdisjoint(environment)
    assert "agent-secret" not in str(environment)
