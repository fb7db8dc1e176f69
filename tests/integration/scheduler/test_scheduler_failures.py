"""Schedulers, nodes and the bus go away and come back."""

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from structlog.testing import capture_logs

from services.scheduler.leadership import KEY
from shared.bus.rpc import call
from shared.contracts.base import Empty
from shared.contracts.scheduler import (
    ASSIGNMENTS_BUCKET,
    DEPLOY,
    LEASES_BUCKET,
    LIST_DEPLOYMENTS,
    Deploy,
    Leadership,
)
from shared.errors import LlmosError
from shared.service.python import python_module
from tests.support.factories.scheduling import GIB
from tests.support.fakes.node import FakeNode
from tests.support.harness.wait import eventually


async def answered(bus, endpoint, request):
    """The answer in a list, or None while there is none."""
    try:
        return [await call(bus, endpoint, request, timeout=2)]
    except LlmosError:
        return None


async def deploy(bus, **options):
    request = Deploy(reference="smollm2:1", **options)
    return (await eventually(lambda: answered(bus, DEPLOY, request)))[0]


async def ready(bus):
    found = await answered(bus, LIST_DEPLOYMENTS, Empty())
    return bool(found) and all(one.ready == one.deployment.replicas for one in found[0].deployments)


async def holder(bus):
    entry = await bus.kv(LEASES_BUCKET).get(KEY)
    return Leadership.decode(entry.value).holder if entry else None


async def assignments(bus, *nodes):
    """The records of `nodes`, or all."""
    entries = await bus.kv(ASSIGNMENTS_BUCKET).entries()
    return [(entry.key, entry.revision) for entry in entries if not nodes or entry.key in nodes]


@asynccontextmanager
async def doomed_node(bus, nodes):
    """A node with a replica that has another node to go to.

    After this node is gone, its record goes with its replica, as the last write of the pass that follows
    its grace period. Then no silent node is left.
    """
    async with FakeNode(bus, "node-z").running() as node:
        await eventually(lambda: assignments(bus, "node-z"))
        await deploy(bus, name="doomed")
        await eventually(lambda: node.ids)
        await nodes("node-y")
        await eventually(lambda: assignments(bus, "node-y"))
        yield


async def test_a_restarted_scheduler_goes_on_with_what_is_there(bus, schedulers, registry, nodes):
    await nodes("node-a", memory=8 * GIB)
    async with AsyncExitStack() as doomed:
        async with schedulers("scheduler-a"):
            await deploy(bus)
            await eventually(lambda: ready(bus))
            await doomed.enter_async_context(doomed_node(bus, nodes))
        before = await assignments(bus, "node-a")
    async with schedulers("scheduler-b"):
        await eventually(lambda: forgotten(bus, "node-z"))
        assert await assignments(bus, "node-a") == before
        await eventually(lambda: ready(bus))


async def test_only_one_of_two_schedulers_leads_and_the_other_takes_over_at_once_when_it_leaves(
    bus, schedulers, registry
):
    async with schedulers("scheduler-b"):
        async with schedulers("scheduler-a"):
            await deploy(bus)
            first = await holder(bus)
        if first == "scheduler-a":
            await eventually(lambda: holder_is(bus, "scheduler-b"))
        assert len((await eventually(lambda: answered(bus, LIST_DEPLOYMENTS, Empty())))[0].deployments) == 1


async def holder_is(bus, name):
    return await holder(bus) == name


@pytest.mark.slow
async def test_a_second_scheduler_takes_over_from_one_that_was_killed(bus, server, schedulers, registry, nodes):
    await nodes("node-a")
    process = await asyncio.create_subprocess_exec(
        *python_module("services.scheduler"),
        env={"LLMOS_NATS_URL": server.url, "LLMOS_INSTANCE": "scheduler-killed", "LLMOS_LOG_LEVEL": "error"},
    )
    try:
        await eventually(lambda: holder_is(bus, "scheduler-killed"))
        await deploy(bus)
        await eventually(lambda: ready(bus))
        before = await assignments(bus)
        async with schedulers("scheduler-b"):
            process.send_signal(signal.SIGKILL)
            await process.wait()
            await eventually(lambda: holder_is(bus, "scheduler-b"), timeout=4)
            await eventually(lambda: ready(bus))
            assert await assignments(bus) == before
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.slow
async def test_a_stopped_process_that_wakes_up_finds_that_it_leads_no_more(bus, server, schedulers, registry):
    process = await asyncio.create_subprocess_exec(
        *python_module("services.scheduler"),
        env={"LLMOS_NATS_URL": server.url, "LLMOS_INSTANCE": "scheduler-asleep"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        await eventually(lambda: holder_is(bus, "scheduler-asleep"))
        async with schedulers("scheduler-b"):
            process.send_signal(signal.SIGSTOP)
            await eventually(lambda: holder_is(bus, "scheduler-b"))
            process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(20):
                while b"leadership.ended" not in (line := await process.stdout.readline()):
                    assert line
            assert await holder(bus) == "scheduler-b"
    finally:
        process.kill()
        await process.wait()


async def test_a_dead_nodes_replica_moves_and_stays_where_it_is_when_the_node_returns(bus, scheduler, nodes):
    other = await nodes("node-b", memory=8 * GIB)
    async with FakeNode(bus, "node-a", memory=4 * GIB).running() as first:
        await eventually(lambda: known(bus, "node-a", "node-b"))
        await deploy(bus)
        await eventually(lambda: first.ids)  # the tighter fit
    await eventually(lambda: other.ids)
    await eventually(lambda: ready(bus))
    moved = other.ids
    assert moved != first.ids
    async with FakeNode(bus, "node-a", memory=4 * GIB).running() as returned:
        await eventually(lambda: returned.history)
        assert returned.history == [()]
        assert other.ids == moved


async def known(bus, *names):
    return {key for key, _ in await assignments(bus)} == set(names)


async def forgotten(bus, name):
    return not await assignments(bus, name)


async def test_the_only_node_goes_on_with_its_replica_when_it_returns(bus, scheduler):
    async with FakeNode(bus, "node-a").running() as first:
        await deploy(bus)
        await eventually(lambda: ready(bus))
        replica = first.ids

    async def says_why():
        (found,) = (await answered(bus, LIST_DEPLOYMENTS, Empty()))[0].deployments
        return found.unplaced == ("no nodes are up; down: node-a",)

    await eventually(says_why)
    async with FakeNode(bus, "node-a").running() as returned:
        await eventually(lambda: ready(bus))
        assert returned.ids == replica
        assert returned.history == [tuple(replica)]


async def test_a_killed_bus_server_moves_nothing(bus, server, scheduler, nodes):
    first, second = await nodes("node-a", memory=8 * GIB), await nodes("node-b", memory=8 * GIB)
    await eventually(lambda: known(bus, "node-a", "node-b"))
    await deploy(bus, replicas=2)
    await eventually(lambda: ready(bus))
    before = (first.ids, second.ids)
    with capture_logs() as logs:
        async with doomed_node(bus, nodes):
            server.kill()
            # Then a lease has passed: the scheduler's own, which it last renewed before the server was gone.
            await eventually(lambda: [log for log in logs if log["event"] == "leadership.ended"])
    server.start()
    await eventually(lambda: bus.connected, timeout=20)
    await eventually(lambda: forgotten(bus, "node-z"), timeout=20)
    assert (first.ids, second.ids) == before
    await eventually(lambda: ready(bus))
