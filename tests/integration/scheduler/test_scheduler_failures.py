"""Schedulers, nodes and the bus go away and come back."""

import asyncio
import signal
import sys

import pytest

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


async def assignments(bus):
    return [(entry.key, entry.revision) for entry in await bus.kv(ASSIGNMENTS_BUCKET).entries()]


async def test_a_restarted_scheduler_goes_on_with_what_is_there(bus, schedulers, registry, nodes):
    await nodes("node-a")
    async with schedulers("scheduler-a"):
        await deploy(bus)
        await eventually(lambda: ready(bus))
    before = await assignments(bus)
    async with schedulers("scheduler-b"):
        await eventually(lambda: ready(bus))
        await asyncio.sleep(1.5)  # longer than a lease: a wrong judgement would have moved the replica by now
        assert await assignments(bus) == before


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
        sys.executable,
        *("-m", "services.scheduler"),
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
        sys.executable,
        *("-m", "services.scheduler"),
        env={"LLMOS_NATS_URL": server.url, "LLMOS_INSTANCE": "scheduler-asleep", "LLMOS_LOG_LEVEL": "error"},
    )
    try:
        await eventually(lambda: holder_is(bus, "scheduler-asleep"))
        async with schedulers("scheduler-b"):
            process.send_signal(signal.SIGSTOP)
            await eventually(lambda: holder_is(bus, "scheduler-b"))
            process.send_signal(signal.SIGCONT)
            for _ in range(10):
                await answered(bus, LIST_DEPLOYMENTS, Empty())
                assert await holder(bus) == "scheduler-b"
                await asyncio.sleep(0.1)
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
    first, second = await nodes("node-a"), await nodes("node-b")
    await eventually(lambda: known(bus, "node-a", "node-b"))
    await deploy(bus, replicas=2)
    await eventually(lambda: ready(bus))
    before = (first.ids, second.ids)
    server.kill()
    await asyncio.sleep(1.5)  # longer than a lease
    server.start()
    await eventually(lambda: ready(bus), timeout=20)
    await asyncio.sleep(1.5)  # a wrong judgement would have moved a replica by now
    assert (first.ids, second.ids) == before
    assert await ready(bus)
