import pytest

from services.inference.replica.lease import StatusLease
from shared.bus.memory.bus import MemoryBus
from shared.contracts.scheduler import REPLICAS_BUCKET, ReplicaAssignment, ReplicaState, ReplicaStatus
from tests.support.harness.wait import eventually

ASSIGNMENT = ReplicaAssignment.EXAMPLE


@pytest.fixture
def kv():
    return MemoryBus().kv(REPLICAS_BUCKET)


async def status(kv):
    entry = await kv.get(ASSIGNMENT.id)
    return None if entry is None else ReplicaStatus.decode(entry.value)


async def test_the_record_stands_from_the_start_follows_each_change_and_goes_after_the_drain(kv):
    async with StatusLease(kv, ASSIGNMENT, "node-a").running() as lease:
        first = await status(kv)
        assert (first.state, first.node, first.options) == (ReplicaState.STARTING, "node-a", ASSIGNMENT.options)
        for state in (ReplicaState.LOADING, ReplicaState.READY, ReplicaState.DRAINING):
            await lease.become(state)
            assert (await status(kv)).state is state
    assert await status(kv) is None


async def test_the_record_is_renewed(kv):
    async with StatusLease(kv, ASSIGNMENT, "node-a").running():
        first = (await kv.get(ASSIGNMENT.id)).revision

        async def renewed():
            return (await kv.get(ASSIGNMENT.id)).revision > first

        await eventually(renewed)


async def test_after_a_failed_start_the_record_stays_and_says_why(kv):
    async with StatusLease(kv, ASSIGNMENT, "node-a").running() as lease:
        await lease.become(ReplicaState.LOADING)
        await lease.become(ReplicaState.FAILED, "the weights are gone")
    last = await status(kv)
    assert (last.state, last.message) == (ReplicaState.FAILED, "the weights are gone")


async def test_a_state_that_does_not_follow_is_refused(kv):
    async with StatusLease(kv, ASSIGNMENT, "node-a").running() as lease:
        with pytest.raises(ValueError, match="starting to ready"):
            await lease.become(ReplicaState.READY)


async def test_the_record_says_how_often_the_replica_was_started_again(kv):
    async with StatusLease(kv, ASSIGNMENT, "node-a", restarts=3).running() as lease:
        await lease.become(ReplicaState.LOADING)
        assert (await status(kv)).restarts == 3


async def test_a_stall_is_in_the_record_until_the_engine_goes_on(kv):
    async with StatusLease(kv, ASSIGNMENT, "node-a").running() as lease:
        await lease.become(ReplicaState.LOADING)
        await lease.report_stall("no step")
        assert (await status(kv)).state is ReplicaState.LOADING
        await lease.become(ReplicaState.READY)
        await lease.report_stall("no step for 6 s")
        assert ((await status(kv)).state, (await status(kv)).message) == (ReplicaState.STALLED, "no step for 6 s")
        await lease.report_memory(memory=1, message="")
        assert (await status(kv)).message == "no step for 6 s"
        await lease.report_stall(None)
        assert ((await status(kv)).state, (await status(kv)).message) == (ReplicaState.READY, "")
        await lease.report_stall("again")
        await lease.become(ReplicaState.DRAINING)
        await lease.report_stall(None)
        assert (await status(kv)).state is ReplicaState.DRAINING
