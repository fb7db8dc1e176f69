"""A node without processes: keeps its lease, and says at once that what it is assigned is ready."""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
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
from tests.support.factories.scheduling import GIB, node


class SampleNode:
    """Use as an async context manager; leaving gives the leases up.

    Args:
        bus: The connection.
        name: Node id.
        memory: Bytes.
        threads: Number.
        answers: Whether assigned replicas become ready.
        renew: Seconds between renewals.
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
    ) -> None:
        self._bus = bus
        self.name = name
        self.status = node(name, memory=memory, threads=threads)
        self.assigned: tuple[ReplicaAssignment, ...] = ()
        self.history: list[tuple[str, ...]] = []
        """The ids of each assignment that was heard."""
        self._answers = answers
        self._renew = renew
        self._stack = AsyncExitStack()
        self._leases: dict[str, AsyncExitStack] = {}
        self._task: asyncio.Task[None] | None = None
        self._vanished = False

    @property
    def ids(self) -> list[str]:
        """Of the replicas that are assigned now."""
        return [replica.id for replica in self.assigned]

    async def __aenter__(self) -> Self:
        lease = Lease(self._bus.kv(NODES_BUCKET), self.name, self.status.encode(), every=self._renew)
        await self._stack.enter_async_context(lease)
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for stack in self._leases.values():
            await stack.aclose()
        await self._stack.aclose()

    async def _follow(self) -> None:
        async with self._bus.kv(ASSIGNMENTS_BUCKET).watch() as events:
            async for event in events:
                if event.operation is KvOperation.PUT and event.key == self.name:
                    self.assigned = NodeAssignment.decode(event.value).replicas
                    self.history.append(tuple(self.ids))
                    if self._answers:
                        await self._answer()

    async def _answer(self) -> None:
        for gone in set(self._leases) - set(self.ids):
            await self._leases.pop(gone).aclose()
        for replica in self.assigned:
            if replica.id not in self._leases:
                stack = self._leases[replica.id] = AsyncExitStack()
                status = replica.status(self.name, ReplicaState.READY)
                lease = Lease(self._bus.kv(REPLICAS_BUCKET), replica.id, status.encode(), every=self._renew)
                await stack.enter_async_context(lease)
