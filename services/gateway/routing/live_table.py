"""Keeps the `RoutingTable` current: deployments and replica leases by KV watch, load reports by subscription."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from services.gateway.routing.table import Candidate, RoutingTable
from shared.bus.leases import LeaseTable
from shared.bus.port import Bus, Message
from shared.bus.records import Records
from shared.bus.rpc import parse
from shared.contracts.load import LoadReport, load_subject
from shared.contracts.manifest import Task
from shared.contracts.scheduler import (
    DEPLOYMENTS_BUCKET,
    REPLICAS_BUCKET,
    Deployment,
    ReplicaState,
    ReplicaStatus,
)
from shared.deadlines import LEASE_TTL_S
from shared.service.background import background

FORGET_EVERY_S = 30.0
FORGET_AFTER_S = 60.0
"""Seconds of silence after which a replica without a lease is forgotten, so that tables do not grow without end."""


class ReplicaObserver(Protocol):
    """A state that follows the replicas."""

    def set_replicas(self, replicas: Mapping[str, ReplicaStatus]) -> None:
        """The replicas with a valid lease, by id."""

    def report(self, report: LoadReport, now: float) -> None:
        """A load report arrived."""

    def forget_silent(self, now: float, after: float) -> None:
        """Forget replicas without a lease that have been silent for `after` seconds."""


class LiveTable:
    """The routing table with its feeds. All methods are called on the event loop."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._table = RoutingTable()
        self._observers: list[ReplicaObserver] = [self._table]
        self._deployments = Records(bus.kv(DEPLOYMENTS_BUCKET), Deployment, self._take_deployments)
        self._replicas = LeaseTable(bus.kv(REPLICAS_BUCKET), LEASE_TTL_S, ReplicaStatus.decode)
        self._replicas_synced = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator["LiveTable"]:
        """Follow deployments, replicas and load while the block runs."""
        async with AsyncExitStack() as stack:
            subscription = await self._bus.subscribe(load_subject(">"), self._on_report)
            stack.push_async_callback(subscription.unsubscribe)
            await stack.enter_async_context(self._deployments.running())
            await stack.enter_async_context(self._replicas.running())
            await stack.enter_async_context(background(self._note_sync(), "note that replicas were read"))
            await stack.enter_async_context(background(self._forget(), "forget silent replicas"))
            yield self

    def follow(self, observer: ReplicaObserver) -> None:
        """Feed leases and load reports to `observer`, too."""
        self._observers.append(observer)

    @property
    def synced(self) -> bool:
        """Whether all deployments and replicas that exist have been read."""
        return self._deployments.synced and self._replicas_synced

    @property
    def deployments(self) -> dict[str, Deployment]:
        """All deployments, by name."""
        return self._table.deployments

    @property
    def replicas(self) -> dict[str, ReplicaStatus]:
        """The replicas with a valid lease, by id."""
        self.refresh()
        return self._table.replicas

    def loads(self) -> list[LoadReport]:
        """The reports of all replicas that are not silent."""
        return self._table.loads(self._clock())

    def choose(self, name: str, *, of: tuple[str, int] | None = None, task: Task = "generate") -> list[Candidate]:
        """`RoutingTable.choose` on what is known now."""
        self.refresh()
        return self._table.choose(name, self._clock(), of=of, task=task)

    def chars_per_token(self, name: str) -> int:
        """`RoutingTable.chars_per_token`."""
        return self._table.chars_per_token(name)

    def ready(self, name: str) -> int:
        """How many replicas of a deployment can take a request."""
        self.refresh()
        return self._table.ready(name, self._clock())

    def sent(self, replica_id: str, request_id: str, tokens: int) -> None:
        """`RoutingTable.sent`."""
        self._table.sent(replica_id, request_id, tokens)

    def accepted(self, replica_id: str, request_id: str) -> None:
        """`RoutingTable.accepted`."""
        self._table.accepted(replica_id, request_id)

    def finished(self, replica_id: str, request_id: str) -> None:
        """`RoutingTable.finished`."""
        self._table.finished(replica_id, request_id)

    def refresh(self) -> None:
        """Pass on which replicas live now: leases also end by the passing of time."""
        replicas = self._replicas.live()
        for observer in self._observers:
            observer.set_replicas(replicas)

    def _take_deployments(self) -> None:
        self._table.set_deployments(self._deployments.values)

    def _on_report(self, message: Message) -> None:
        report, now = parse(LoadReport, message.data), self._clock()
        known = self._table.replicas.get(report.replica_id)
        if known is None or known.state is not ReplicaState.READY:
            self.refresh()  # it is on its way: the observers see when it is ready
        for observer in self._observers:
            observer.report(report, now)

    async def _note_sync(self) -> None:
        await self._replicas.wait_synced()
        self._replicas_synced = True

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(FORGET_EVERY_S)
            for observer in self._observers:
                observer.forget_silent(self._clock(), FORGET_AFTER_S)
