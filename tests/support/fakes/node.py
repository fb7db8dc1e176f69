"""A node without processes: keeps its lease, and reports its assigned replicas as ready at once."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from shared.bus.leases import Lease
from shared.bus.port import Bus, KvOperation
from shared.contracts.scheduler import (
    ASSIGNMENTS_BUCKET,
    NODES_BUCKET,
    REPLICAS_BUCKET,
    NodeAssignment,
    ReplicaAssignment,
    ReplicaState,
)
from shared.service.background import background
from tests.support.factories.scheduling import GIB, node


class FakeNode:
    """Holds its leases within `running`.

    Args:
        bus: The connection.
        name: Node id.
        memory: Bytes.
        threads: Number.
        answers: Whether assigned replicas become ready.
        renew: Seconds between renewals.
        training_address: Where its trainings meet those of other nodes.
    """

    def __init__(
        self,
        bus: Bus,
        name: str,
        *,
        memory: int = 4 * GIB,
        threads: int = 4,
        answers: bool = True,
        renew: float = 0.2,
        training_address: str = "127.0.0.1",
    ) -> None:
        self._bus = bus
        self.name = name
        self.status = node(name, memory=memory, threads=threads).model_copy(
            update={"training_address": training_address}
        )
        self.assigned: tuple[ReplicaAssignment, ...] = ()
        self.history: list[tuple[str, ...]] = []
        """The ids of each assignment that was heard."""
        self._answers = answers
        self._renew = renew
        self._leases: dict[str, AsyncExitStack] = {}

    @property
    def ids(self) -> list[str]:
        """Of the replicas that are assigned now."""
        return [replica.id for replica in self.assigned]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with Lease(self._bus.kv(NODES_BUCKET), self.name, self.status.encode(), every=self._renew).running():
            try:
                async with background(self._follow(), "follow the assignment"):
                    yield self
            finally:
                for stack in self._leases.values():
                    await stack.aclose()

    async def _follow(self) -> None:
        async with self._bus.kv(ASSIGNMENTS_BUCKET).watch() as events:
            async for event in events:
                if event.operation is KvOperation.PUT and event.key == self.name:
                    self.assigned = NodeAssignment.decode(event.value).replicas
                    self.history.append(tuple(self.ids))
                    if self._answers:
                        await self._report_ready()

    async def _report_ready(self) -> None:
        for gone in set(self._leases) - set(self.ids):
            await self._leases.pop(gone).aclose()
        for replica in self.assigned:
            if replica.id not in self._leases:
                stack = self._leases[replica.id] = AsyncExitStack()
                status = replica.status(self.name, ReplicaState.READY)
                lease = Lease(self._bus.kv(REPLICAS_BUCKET), replica.id, status.encode(), every=self._renew)
                await stack.enter_async_context(lease.running())
