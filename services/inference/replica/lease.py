"""The replica's own record in KV `LLMOS_REPLICAS`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import structlog

from shared.bus.leases import Lease
from shared.bus.port import KeyValue
from shared.contracts.scheduler import ReplicaAssignment, ReplicaState
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.replica")

_NEXT: dict[ReplicaState, frozenset[ReplicaState]] = {
    ReplicaState.STARTING: frozenset({ReplicaState.LOADING, ReplicaState.FAILED}),
    ReplicaState.LOADING: frozenset({ReplicaState.READY, ReplicaState.FAILED}),
    ReplicaState.READY: frozenset({ReplicaState.STALLED, ReplicaState.DRAINING}),
    ReplicaState.STALLED: frozenset({ReplicaState.READY, ReplicaState.DRAINING}),
    ReplicaState.DRAINING: frozenset(),
    ReplicaState.FAILED: frozenset(),
}


class StatusLease:
    """The replica's `ReplicaStatus`, which stands while `running` is inside.

    Args:
        kv: The bucket.
        assignment: What the replica serves.
        node_id: Where it runs.
        restarts: How often its node agent started it again.
    """

    def __init__(self, kv: KeyValue, assignment: ReplicaAssignment, node_id: str, *, restarts: int = 0) -> None:
        self._kv = kv
        self._status = assignment.status(node_id, ReplicaState.STARTING, restarts=restarts)
        self._lease = Lease(kv, self._status.id, self._status.encode())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Hold the record while inside; leaving removes it, but for a failure: the node agent reads the reason."""
        try:
            async with self._lease.running():
                yield self
        finally:
            if self._status.state is ReplicaState.FAILED:
                try:
                    await self._kv.put(self._status.id, self._status.encode())
                except LlmosError as error:  # the log has the reason, too
                    _log.warning("replica_status.not_written", error=error.message)

    def describe(self, *, chars_per_token: int) -> None:
        """Say what was found out when the version was loaded; written with the next change of the state."""
        self._status = self._status.model_copy(update={"chars_per_token": chars_per_token})

    async def become(self, state: ReplicaState, message: str = "") -> None:
        """Change the state; written on return if the bus is connected. Raises ValueError on an illegal transition."""
        if state not in _NEXT[self._status.state]:
            raise ValueError(f"a replica does not go from {self._status.state} to {state}")
        _log.info("replica.state_changed", state=state.value, message=message)
        self._status = self._status.model_copy(update={"state": state, "message": message})
        await self._lease.set(self._status.encode())

    async def report_stall(self, message: str | None) -> None:
        """Say that the ready replica has stalled and why, or with None that it has not; a draining one stays so."""
        before, after = ReplicaState.READY, ReplicaState.STALLED
        if message is None:
            before, after = after, before
        if self._status.state is before:
            await self.become(after, message or "")

    async def report_memory(self, *, memory: int, message: str) -> None:
        """Write the memory in use while the replica is ready; at the latest with the next renewal."""
        if self._status.state is not ReplicaState.READY:
            return
        self._status = self._status.model_copy(update={"memory": memory, "message": message})
        await self._lease.set(self._status.encode())
