"""The loop of a node: watch the assignment, reconcile, report, keep the node's lease."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import ValidationError

from services.inference.agent.claim import claim, yield_to_successor
from services.inference.agent.reconcile import Held, Hold, Start, Stop, reconcile
from services.inference.agent.replica_process import CLEAN_UP_S, Replica, replica_environment
from shared.bus.leases import Lease, LeaseTable
from shared.bus.port import Bus, KvEvent, KvOperation
from shared.contracts.scheduler import (
    ASSIGNMENTS_BUCKET,
    LEASE_RENEW_S,
    LEASE_TTL_S,
    NODES_BUCKET,
    REPLICAS_BUCKET,
    Gpu,
    NodeAssignment,
    NodeStatus,
    ReplicaAssignment,
    ReplicaState,
    ReplicaStatus,
    Resources,
)
from shared.errors import Conflict, LlmosError
from shared.service.supervise import ChildSpec

Value = TypeVar("Value")

_log = structlog.get_logger("llmos.agent")


@dataclass(frozen=True, slots=True)
class Node:
    """What this node is, and how it runs replicas."""

    id: str
    instance: str
    """The agent's own name, another one at each start."""
    capacity: Resources
    replica_command: tuple[str, ...]
    drain_timeout: float
    """Seconds that a removed replica has for its answers."""
    load_timeout: float
    """Seconds within which a replica must be ready."""
    log_dir: Path | None = None
    gpus: tuple[Gpu, ...] = ()


class NodeAgent:
    """Runs what the scheduler assigned to this node. `run` it while `holding_node`, then `close` it."""

    def __init__(self, bus: Bus, node: Node) -> None:
        self._bus = bus
        self._node = node
        self._status = NodeStatus(
            id=node.id,
            capacity=node.capacity,
            gpus=node.gpus,
            started_at=datetime.now(UTC),
            instance=node.instance,
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        self._nodes = bus.kv(NODES_BUCKET, ttl=LEASE_TTL_S)
        self._statuses = bus.kv(REPLICAS_BUCKET, ttl=LEASE_TTL_S)
        self._wanted: tuple[ReplicaAssignment, ...] | None = None
        """None: the scheduler never said anything, which is no reason to end what runs."""
        self._replicas: dict[str, Replica] = {}
        self._held_back: dict[str, ReplicaStatus] = {}
        """Wanted replicas without a process, and why."""
        self._stopping: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def holding_node(self) -> AsyncIterator[None]:
        """Be this node while inside. Raises Conflict if another agent is.

        It is left before `close` is called, so that the scheduler moves replicas while they drain.
        """
        await claim(self._nodes, self._status)
        async with Lease(self._nodes, self._node.id, self._status.encode()):
            yield

    async def run(self) -> None:
        """Follow the assignment until cancelled.

        Raises:
            ExceptionGroup: With a Conflict, when another agent took the node over.
        """
        await self._forget_former_replicas()
        async with (
            LeaseTable(self._statuses, LEASE_TTL_S, ReplicaStatus.decode) as replicas,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(yield_to_successor(self._nodes, self._status), name="yield to a successor")
            tasks.create_task(self._watch_assignment(), name="watch the assignment")
            tasks.create_task(self._reconcile(replicas), name="reconcile")

    async def close(self, timeout: float) -> None:
        """Drain all replicas; kill what is left after `timeout` seconds."""
        for replica in self._replicas.values():
            if not replica.stopping:
                self._stop(replica)
        if self._stopping:
            _, late = await asyncio.wait(self._stopping, timeout=timeout)
            left = list(self._replicas.values())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, *(replica.kill() for replica in left), return_exceptions=True)
            for replica in left:
                _log.warning("replica did not drain in time and was killed", replica=replica.assignment.id)
                await self._try("remove a status", self._statuses.delete(replica.assignment.id))

    async def _forget_former_replicas(self) -> None:
        """Remove what a former agent of this node left in the table: its replicas died with it."""
        entries = await self._try("read replica statuses", self._statuses.entries()) or []
        for entry in entries:
            with suppress(ValidationError):
                if ReplicaStatus.decode(entry.value).node == self._node.id:
                    await self._try("remove a status", self._statuses.delete(entry.key, entry.revision))

    async def _watch_assignment(self) -> None:
        async with self._bus.kv(ASSIGNMENTS_BUCKET).watch() as events:
            async for event in events:
                self._take(event)

    def _take(self, event: KvEvent) -> None:
        if event.key != self._node.id or event.operation is not KvOperation.PUT:
            return
        try:
            self._wanted = NodeAssignment.decode(event.value).replicas
        except ValidationError as error:
            _log.error("assignment does not parse; what runs goes on", error=str(error))
            return
        _log.info("assigned", replicas=[replica.id for replica in self._wanted])
        self._changed.set()

    async def _reconcile(self, replicas: LeaseTable[ReplicaStatus]) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_RENEW_S):
                    await self._changed.wait()
            self._changed.clear()
            if self._wanted is not None:
                await self._apply(self._wanted)
            live = replicas.live()
            for replica in self._replicas.values():
                self._look_after(replica, live.get(replica.assignment.id))
            await self._report()

    async def _apply(self, wanted: tuple[ReplicaAssignment, ...]) -> None:
        held = {key: Held(replica.assignment, replica.stopping) for key, replica in self._replicas.items()}
        self._held_back.clear()
        gpus = {gpu.id: gpu.memory for gpu in self._node.gpus}
        for instruction in reconcile(wanted, held, memory=self._node.capacity.memory, gpus=gpus):
            match instruction:
                case Stop(key):
                    self._stop(self._replicas[key])
                case Start(assignment):
                    await self._start(assignment)
                case Hold(assignment, reason):
                    self._held_back[assignment.id] = self._state(assignment, ReplicaState.STARTING, reason)

    async def _start(self, assignment: ReplicaAssignment) -> None:
        node = self._node
        spec = ChildSpec(
            name=f"replica {assignment.id}",
            argv=node.replica_command,
            env=replica_environment(assignment, node=node.id, drain_timeout=node.drain_timeout),
            log=node.log_dir / f"replica-{assignment.id}.log" if node.log_dir else None,
            stop_timeout=node.drain_timeout + CLEAN_UP_S,
        )
        replica = Replica(assignment, spec, self._changed.set)
        self._replicas[assignment.id] = replica
        try:
            await replica.start()
        except (LlmosError, OSError) as error:
            del self._replicas[assignment.id]
            reason = f"its process could not be started: {error}"
            _log.error("replica not started; tried again", replica=assignment.id, error=str(error))
            self._held_back[assignment.id] = self._state(assignment, ReplicaState.FAILED, reason)
            return
        status = self._state(assignment, ReplicaState.STARTING)
        replica.announced = await self._try("write a status", self._statuses.put(status.id, status.encode()))

    def _stop(self, replica: Replica) -> None:
        replica.stopping = True
        task = asyncio.create_task(self._end(replica), name=f"stop {replica.assignment.id}")
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _end(self, replica: Replica) -> None:
        key = replica.assignment.id
        try:
            await replica.stop(self._bus)
        finally:
            del self._replicas[key]
            self._changed.set()
        await self._try("remove a status", self._statuses.delete(key))
        _log.info("replica removed", replica=key)

    def _look_after(self, replica: Replica, status: ReplicaStatus | None) -> None:
        if status is not None and status.state in {ReplicaState.READY, ReplicaState.DRAINING} and replica.running:
            replica.answers()
        if status is not None and status.state is ReplicaState.FAILED and status.message != replica.failure:
            replica.explain(status.message)
        replica.kill_if_overdue(self._node.load_timeout)

    async def _report(self) -> None:
        """Say what replicas cannot say themselves: those that ended, and those that were not started."""
        for replica in list(self._replicas.values()):
            if replica.stopping:
                continue
            if replica.announced is not None:
                await self._announce_again(replica, replica.announced)
            elif not replica.running:
                await self._write(
                    self._state(replica.assignment, ReplicaState.FAILED, replica.failure, replica.restarts)
                )
        for status in list(self._held_back.values()):
            if status.id not in self._replicas:
                await self._write(status)

    async def _announce_again(self, replica: Replica, revision: int) -> None:
        """Renew what the agent said at the start, until the replica has written there itself."""
        status = self._state(replica.assignment, ReplicaState.STARTING)
        try:
            renewed = await self._statuses.update(status.id, status.encode(), revision)
        except Conflict:
            replica.announced = None
        except LlmosError as error:
            _log.warning("could not write a status", error=error.message)
        else:
            if replica.announced == revision:  # otherwise it has ended meanwhile
                replica.announced = renewed

    def _state(
        self, assignment: ReplicaAssignment, state: ReplicaState, message: str = "", restarts: int = 0
    ) -> ReplicaStatus:
        return assignment.status(self._node.id, state, message, restarts=restarts)

    async def _write(self, status: ReplicaStatus) -> None:
        await self._try("write a status", self._statuses.put(status.id, status.encode()))

    async def _try(self, what: str, work: Awaitable[Value]) -> Value | None:
        """Records are written again every second, so one that could not be is only logged."""
        try:
            return await work
        except LlmosError as error:
            _log.warning(f"could not {what}", error=error.message)
            return None
