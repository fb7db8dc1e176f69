"""The replica's own record in KV `LLMOS_REPLICAS`."""

from types import TracebackType
from typing import Self

import structlog

from shared.bus.leases import Lease
from shared.bus.port import KeyValue
from shared.contracts.scheduler import ReplicaAssignment, ReplicaState
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
    """Says in `ReplicaStatus` how the replica is, for as long as the process lives; use as an async context manager.

    Leaving removes the record. Only that of a failed start stays: the node agent reads there why.
    """

    def __init__(self, kv: KeyValue, assignment: ReplicaAssignment, node_id: str, *, restarts: int = 0) -> None:
        self._kv = kv
        self._status = assignment.status(node_id, ReplicaState.STARTING, restarts=restarts)
        self._lease = Lease(kv, self._status.id, self._status.encode())

    async def __aenter__(self) -> Self:
        await self._lease.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._lease.__aexit__(kind, error, traceback)
        if self._status.state is ReplicaState.FAILED:
            try:
                await self._kv.put(self._status.id, self._status.encode())
            except LlmosError as problem:  # the log has the reason, too
                log.warning("failure_not_recorded", error=problem.message)

    async def become(self, state: ReplicaState, message: str = "") -> None:
        """Change the state; written on return if the bus is there. Raises ValueError on a move that is none."""
        if state not in _NEXT[self._status.state]:
            raise ValueError(f"a replica does not go from {self._status.state} to {state}")
        log.info("replica_state", state=state.value, message=message)
        self._status = self._status.model_copy(update={"state": state, "message": message})
        await self._lease.set(self._status.encode())

    async def tell(self, *, memory: int, message: str) -> None:
        """Say how much memory is used and, while ready, what is wrong; told with the next renewal at the latest."""
        if self._status.state is not ReplicaState.READY:
            return
        self._status = self._status.model_copy(update={"memory": memory, "message": message})
        await self._lease.set(self._status.encode())
