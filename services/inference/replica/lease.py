"""The replica's own record in KV `LLMOS_REPLICAS`, renewed while the process lives."""

import asyncio
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

import structlog

from services.inference.replica.background import background
from shared.bus.port import KeyValue
from shared.contracts.scheduler import LEASE_RENEW_S, ReplicaAssignment, ReplicaState, ReplicaStatus
from shared.errors import LlmosError

log = structlog.get_logger("llmos.replica")

_NEXT: dict[ReplicaState, frozenset[ReplicaState]] = {
    ReplicaState.STARTING: frozenset({ReplicaState.LOADING, ReplicaState.FAILED}),
    ReplicaState.LOADING: frozenset({ReplicaState.READY, ReplicaState.FAILED}),
    ReplicaState.READY: frozenset({ReplicaState.DRAINING}),
    ReplicaState.DRAINING: frozenset(),
    ReplicaState.FAILED: frozenset(),
}


class StatusLease:
    """Writes `ReplicaStatus` every `LEASE_RENEW_S` seconds and at each change; use as an async context manager.

    Leaving removes the record if the replica drained. After a failed start or a crash it stays: it says why (or the
    node agent writes it there), and the node agent removes it.
    """

    def __init__(self, kv: KeyValue, assignment: ReplicaAssignment, node_id: str) -> None:
        self._kv = kv
        self._status = ReplicaStatus(
            id=assignment.id,
            node=node_id,
            deployment=assignment.deployment,
            model=assignment.model,
            version=assignment.version,
            state=ReplicaState.STARTING,
            slots=assignment.slots,
            max_len=assignment.max_len,
        )
        self._changed = asyncio.Event()
        self._tasks = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._write()
        await self._tasks.enter_async_context(background(self._renew(), "renew the status lease"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._tasks.aclose()
        if self._status.state is ReplicaState.DRAINING:
            try:
                await self._kv.delete(self._status.id)
            except LlmosError as problem:  # the lease runs out by itself
                log.warning("lease_not_removed", error=problem.message)

    @property
    def state(self) -> ReplicaState:
        """Where the replica stands."""
        return self._status.state

    def become(self, state: ReplicaState, message: str = "") -> None:
        """Change the state; it is written at once. Raises ValueError on a move that the life of a replica lacks."""
        if state not in _NEXT[self._status.state]:
            raise ValueError(f"a replica does not go from {self._status.state} to {state}")
        log.info("replica_state", state=state.value, message=message)
        self._status = self._status.model_copy(update={"state": state, "message": message})
        self._changed.set()

    async def fail(self, message: str) -> None:
        """The start failed; on return the record says why."""
        self.become(ReplicaState.FAILED, message)
        await self._tasks.aclose()
        await self._write()

    async def _renew(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_RENEW_S):  # wait_for may swallow a cancel that comes with the change
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._write()
            except LlmosError as problem:  # the bus is away; it reconnects by itself
                log.warning("lease_not_renewed", error=problem.message)

    async def _write(self) -> None:
        await self._kv.put(self._status.id, self._status.encode())
