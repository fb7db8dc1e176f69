"""What the rules are shown of a system on a bus."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from services.monitor.alerts.observation import History, Observation
from services.monitor.alerts.policy.signals import Signals
from services.monitor.health import HealthTable
from services.monitor.spans import FirstToken, RequestFacts, StoredSpan
from shared.audit.trail import Trail
from shared.bus.memory.bus import MemoryBroker, MemoryBus
from shared.bus.rpc import publish
from shared.contracts.events import CHAINS
from shared.contracts.load import LoadReport, load_subject
from shared.contracts.monitor import DiskSpace, Heartbeat
from shared.contracts.resources import Resources
from shared.contracts.scheduler import (
    DEPLOYMENTS_BUCKET,
    LEASES_BUCKET,
    REPLICAS_BUCKET,
    Deployment,
    Leadership,
    ReplicaState,
    ReplicaStatus,
)
from tests.support.harness.wait import eventually


class Clock:
    def __init__(self) -> None:
        self.time = 50_000.0

    def __call__(self) -> float:
        return self.time


def span_of(facts: RequestFacts | None = None, first_token: FirstToken | None = None) -> StoredSpan:
    return StoredSpan(
        b"t" * 16, b"s" * 8, b"", "span", 0, 1, error=False, data=b"", facts=facts, first_token=first_token
    )


@asynccontextmanager
async def observing(
    bus: MemoryBus, clock: Clock, health: HealthTable | None = None, pending: int = 0
) -> AsyncIterator[Observation]:
    observation = Observation(bus, health or HealthTable(), slow_s=1.0, pending=lambda: pending, clock=clock)
    async with observation.running():
        yield observation


async def seen(observation: Observation) -> Signals | None:
    signals = await observation.look()
    return signals if signals.desired and signals.replicas and signals.has_leader is not None else None


async def test_records_leases_and_load_reports_become_signals() -> None:
    bus, clock = MemoryBus(MemoryBroker()), Clock()
    record = Deployment.EXAMPLE.model_copy(
        update={"name": "chat", "replicas": 2, "resources": Resources(memory=1000, threads=0)}
    )
    status = ReplicaStatus.EXAMPLE.model_copy(
        update={
            "id": "r1",
            "deployment": "chat",
            "version": record.version,
            "state": ReplicaState.READY,
            "memory": 990,
            "restarts": 2,
        }
    )
    await bus.kv(DEPLOYMENTS_BUCKET).put("chat", record.encode())
    await bus.kv(REPLICAS_BUCKET).put("r1", status.encode())
    await bus.kv(LEASES_BUCKET).put("scheduler", Leadership(holder="s").encode())
    async with observing(bus, clock, pending=7) as observation:
        load = LoadReport.EXAMPLE.model_copy(update={"replica_id": "r1", "deployment": "chat"})
        busy = load.load.model_copy(update={"waiting": 30, "stalled_s": 4.0})
        await publish(bus, load_subject("r1"), load.model_copy(update={"load": busy}))
        signals = await eventually(lambda: seen(observation))
        assert signals is not None
        assert (signals.desired, signals.has_leader, signals.pending) == ({"chat": 2}, True, 7)
        assert signals.round_trip_s is not None
        assert signals.replicas is not None
        replica = signals.replicas["r1"]
        assert (replica.ready, replica.memory, replica.granted, replica.stalled_s) == (True, 990, 1000, 4.0)
        assert replica.restarts[-1][1] == 2
        assert signals.waiting is not None
        assert signals.waiting["chat"][-1][1] == 30
        clock.time += 10
        later = await observation.look()
        assert later.waiting is not None
        assert later.waiting["chat"][-1][1] == 0, "a report is good for some seconds"
        assert later.replicas is not None
        assert later.replicas["r1"].stalled_s == 0
    await bus.drain()


async def test_spans_are_counted_by_deployment() -> None:
    bus, clock = MemoryBus(MemoryBroker()), Clock()
    async with observing(bus, clock) as observation:
        observation.spans(
            [
                span_of(RequestFacts(1, model="chat", status=200)),
                span_of(RequestFacts(1, model="chat", status=503)),
                span_of(RequestFacts(1, model=None, status=500)),
                span_of(RequestFacts(1)),
                span_of(first_token=FirstToken("chat", 3.0)),
            ]
        )
        count = (await observation.look()).windows[300.0]["chat"]
        assert (count.requests, count.errors, count.first_tokens, count.slow) == (2, 1, 1, 1)
    await bus.drain()


async def test_a_bus_that_is_away_is_unknown_and_not_empty() -> None:
    broker, clock = MemoryBroker(), Clock()
    bus = MemoryBus(broker)
    async with observing(bus, clock) as observation:
        broker.stop()
        signals = await observation.look()
        assert (signals.round_trip_s, signals.replicas, signals.has_leader) == (None, None, None)
        broker.start()
    await bus.drain()


async def test_heartbeats_disks_and_the_check_of_events() -> None:
    bus, clock, health = MemoryBus(MemoryBroker()), Clock(), HealthTable()
    disk = DiskSpace(folder="/a", free=1, total=2)
    health.observe(Heartbeat.EXAMPLE.model_copy(update={"disk": disk}), clock.time - 12)
    await Trail(bus, CHAINS["registry"], actor="r", now=lambda: datetime.now(UTC)).record("alias.set", "a@b")
    async with observing(bus, clock, health) as observation:
        signals = await observation.look()
        assert [one.up for one in signals.instances] == [False]
        assert (signals.disks, signals.audit) == ({"/a": disk}, None)
        await observation.check_events()
        audit = (await observation.look()).audit
        assert audit is not None
        assert audit.sound
    await bus.drain()


def test_a_history_forgets_what_is_old_and_what_is_gone() -> None:
    history = History()
    history.note(0.0, {"a": 1.0, "b": 1.0})
    history.note(3700.0, {"a": 2.0})
    assert history.of("a") == [(3700.0, 2.0)]
    assert history.of("b") == []
