"""Two agents must not run as one node."""

import asyncio
import os
import socket
from datetime import UTC, datetime, timedelta

import pytest

from services.inference.agent.claim import claim, watch_for_takeover
from shared.contracts.resources import Resources
from shared.contracts.scheduler import NODES_BUCKET, NodeStatus
from shared.errors import Conflict
from shared.service.process_identity import ProcessIdentity
from tests.support.factories.scheduling import deployment, replica
from tests.support.harness.wait import eventually


def status(
    instance: str, *, host: str = "elsewhere", pid: int = 4242, birth: str = "", clock_ahead: float = 0.0
) -> NodeStatus:
    return NodeStatus(
        id="node-a",
        capacity=Resources(memory=1, threads=1),
        started_at=datetime.now(UTC) + timedelta(seconds=clock_ahead),
        instance=instance,
        host=host,
        pid=pid,
        birth=birth,
    )


@pytest.fixture
def nodes(bench):
    return bench.bus.kv(NODES_BUCKET)


async def test_a_second_agent_refuses_and_the_first_goes_on(bench, agents):
    first = await bench.agent_process()
    try:
        await bench.assign(replica("r1", deployment()))
        await eventually(lambda: len(bench.running("r1")) == 1)
        before = bench.running("r1")
        with pytest.raises(
            Conflict, match=r"already runs as node 'node-a'; give each its own LLMOS_INFERENCE_NODE_ID"
        ):
            async with agents():
                pass
        assert bench.running("r1") == before
        assert await bench.node() is not None
    finally:
        first.terminate()
        await first.wait()


async def test_a_record_that_is_not_renewed_is_taken_over(nodes):
    await nodes.put("node-a", status("dead").encode())
    await claim(nodes, status("new"), silence=0.3)
    assert NodeStatus.decode((await nodes.get("node-a")).value).instance == "new"


async def test_an_agent_of_this_machine_that_has_ended_is_not_waited_for(nodes):
    ended = await asyncio.create_subprocess_exec("sleep", "600")
    birth = ProcessIdentity.of(ended.pid).birth
    ended.kill()
    await ended.wait()
    for pid in (ended.pid, os.getpid()):  # a stranger has the latter: pids are used again
        await nodes.put("node-a", status("dead", host=socket.gethostname(), pid=pid, birth=birth).encode())
        async with asyncio.timeout(5):
            await claim(nodes, status("new"), silence=600)


@pytest.mark.parametrize(
    "birth", ["", "another-boot/pid:[1]/7"], ids=["not recorded", "of another machine or container with this name"]
)
async def test_an_agent_is_not_taken_for_ended_by_its_number_alone(nodes, birth):
    other = status("other", host=socket.gethostname(), pid=os.getpid(), birth=birth)
    await nodes.put("node-a", other.encode())
    claiming = asyncio.create_task(claim(nodes, status("new"), silence=600))
    async with asyncio.timeout(10):
        while not claiming.done():
            await nodes.put("node-a", other.encode())
            await asyncio.wait({claiming}, timeout=0.1)
    with pytest.raises(Conflict, match="already runs as node"):
        await claiming


async def test_of_two_that_start_at_once_one_gets_the_node(nodes):
    results = await asyncio.gather(
        *(claim(nodes, status(f"agent-{i}"), silence=1.0) for i in range(2)), return_exceptions=True
    )
    # The loser finds a record that is not renewed in this test, and takes it over later; never both at once.
    holder = NodeStatus.decode((await nodes.get("node-a")).value).instance
    assert isinstance(results[int(holder.removeprefix("agent-"))], NodeStatus)


@pytest.mark.parametrize("clock_ahead", [-660.0, 0.0, 660.0])
async def test_an_agent_that_was_taken_for_dead_yields_to_its_successor(nodes, clock_ahead):
    """Whatever their clocks show: with the clocks compared, both agents ran on, or the wrong one ended."""
    old = await claim(nodes, status("old"), silence=0.3)
    new = await claim(nodes, status("new", clock_ahead=clock_ahead), silence=0.3)
    watches = [asyncio.create_task(watch_for_takeover(nodes, each)) for each in (old, new)]
    for each in (old, new, old, new):  # both renew, since the old one does not know yet
        await nodes.put("node-a", each.encode())
    with pytest.raises(Conflict, match=r"another agent \(new on elsewhere, pid 4242\) took over node 'node-a'"):
        async with asyncio.timeout(5):
            await watches[0]
    await nodes.put("node-a", old.encode())
    last = await nodes.put("node-a", new.encode())
    async with nodes.watch() as events:  # the other watch has the same events by now
        async for event in events:
            if event.revision == last:
                break
    assert not watches[1].done()
    watches[1].cancel()


async def test_a_successor_is_known_by_the_record_that_takes_the_node(nodes):
    old = await claim(nodes, status("old"), silence=0.3)
    watching = asyncio.create_task(watch_for_takeover(nodes, old))
    await claim(nodes, status("new", clock_ahead=-660.0), silence=0.3)
    with pytest.raises(Conflict, match="took over node"):
        async with asyncio.timeout(5):
            await watching
