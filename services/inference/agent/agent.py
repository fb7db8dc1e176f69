"""The node's loop: watch the assignment, reconcile, write statuses, keep the node's lease."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import ValidationError

from services.inference.agent.claim import claim, watch_for_takeover
from services.inference.agent.damage import reporting
from services.inference.agent.fetches import Fetches
from services.inference.agent.job_process import JobCommand
from services.inference.agent.jobs import NodeJobs
from services.inference.agent.reconcile import Defer, ExistingReplica, Start, Stop, reconcile
from services.inference.agent.replica_process import ReplicaProcess, replica_environment
from shared.bus.leases import Lease, LeaseTable
from shared.bus.port import Bus, KvEvent, KvOperation, Message
from shared.bus.rpc import parse
from shared.contracts.job import JobKind
from shared.contracts.load import LoadReport, load_subject
from shared.contracts.resources import Resources
from shared.contracts.scheduler import (
    ASSIGNMENTS_BUCKET,
    NODES_BUCKET,
    REPLICAS_BUCKET,
    Gpu,
    NodeAssignment,
    NodeStatus,
    ReplicaAssignment,
    ReplicaState,
    ReplicaStatus,
)
from shared.deadlines import JOB_STOP_S, LEASE_RENEW_S, LEASE_TTL_S, REPLICA_CLEAN_UP_S, SILENCE_RESTART_S
from shared.errors import Conflict, LlmosError
from shared.service.background import background
from shared.service.interfaces import loopback_network
from shared.service.process_identity import ProcessIdentity
from shared.service.supervise import ChildSpec
from shared.storage.port import ArtifactStore

Value = TypeVar("Value")

_log = structlog.get_logger("llmos.agent")


@dataclass(frozen=True, slots=True)
class Node:
    """What this node is, and how it runs replicas."""

    id: str
    instance: str
    """The agent's own name; each start has a new one."""
    capacity: Resources
    replica_command: tuple[str, ...]
    replica_nats_url: str = field(repr=False)
    """The bus, with the user that replicas have."""
    store: ArtifactStore
    """Where the files of versions come from."""
    cache_dir: Path
    """Where they are kept on this node."""
    drain_timeout: float
    """Seconds that a removed replica has to finish its requests."""
    load_timeout: float
    """Seconds within which a replica must be ready."""
    jobs: JobCommand
    training_address: str
    """The IP address at which other nodes reach a training on this one."""
    log_dir: Path | None = None
    gpus: tuple[Gpu, ...] = ()
    lacking: Mapping[JobKind, str] = field(default_factory=dict)
    """Kinds of jobs that can't run here, and why."""


class NodeAgent:
    """Runs what the scheduler assigned to this node."""

    def __init__(self, bus: Bus, node: Node) -> None:
        self._bus = bus
        self._node = node
        process = ProcessIdentity.own()
        self._status = NodeStatus(
            id=node.id,
            capacity=node.capacity,
            gpus=node.gpus,
            lacking=dict(node.lacking),
            started_at=datetime.now(UTC),
            instance=node.instance,
            host=socket.gethostname(),
            pid=process.pid,
            birth=process.birth,
            training_address=node.training_address,
            loopback=loopback_network(),
        )
        self._nodes = bus.kv(NODES_BUCKET, ttl=LEASE_TTL_S)
        self._statuses = bus.kv(REPLICAS_BUCKET, ttl=LEASE_TTL_S)
        self._desired: NodeAssignment | None = None
        """None before the first assignment: then what runs is left alone."""
        self._replicas: dict[str, ReplicaProcess] = {}
        self._deferred: dict[str, ReplicaStatus] = {}
        """Desired replicas without a process, and why."""
        self._stopping: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._fetches = Fetches(node.store, node.cache_dir, self._changed.set, partial(reporting, bus, node=node.id))
        self._jobs = NodeJobs(bus, node.id, node.jobs, self._changed.set)

    @asynccontextmanager
    async def running(self, *, drain_timeout: float) -> AsyncIterator[None]:
        """Be this node while inside; leaving drains its replicas.

        The node's lease is given up first, so that the scheduler moves replicas while they drain.

        Args:
            drain_timeout: Seconds after which replicas that still drain are killed.

        Raises:
            Conflict: Another agent runs as this node.
            ExceptionGroup: With a Conflict, when another agent took the node over.
        """
        try:
            self._status = await claim(self._nodes, self._status)
            async with (
                Lease(self._nodes, self._node.id, self._status.encode()).running(),
                background(self._run(), "node agent"),
            ):
                yield
        finally:
            await self._close(drain_timeout)

    async def _run(self) -> None:
        await self._delete_stale_statuses()
        async with (
            LeaseTable(self._statuses, LEASE_TTL_S, ReplicaStatus.decode).running() as replicas,
            self._hearing_load_reports(),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(watch_for_takeover(self._nodes, self._status), name="watch for a takeover")
            tasks.create_task(self._watch_assignment(), name="watch the assignment")
            tasks.create_task(self._reconcile(replicas), name="reconcile")
            tasks.create_task(self._jobs.follow(), name="publish the events of jobs")

    @asynccontextmanager
    async def _hearing_load_reports(self) -> AsyncIterator[None]:
        """While inside, load reports are signs of life of this node's replicas."""

        def heard(message: Message) -> None:
            if (replica := self._replicas.get(parse(LoadReport, message.data).replica_id)) is not None:
                replica.heard()

        subscription = await self._bus.subscribe(load_subject(">"), heard)
        try:
            yield
        finally:
            await subscription.unsubscribe()

    async def _close(self, timeout: float) -> None:
        """Drain all replicas and stop all jobs; kill what is left after `timeout` seconds."""
        jobs = asyncio.create_task(self._jobs.close(min(timeout, JOB_STOP_S)), name="stop jobs")
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
                _log.warning("replica.killed", reason="it did not drain in time", replica=replica.assignment.id)
                await self._try_bus("replica_status.not_deleted", self._statuses.delete(replica.assignment.id))
        await self._fetches.keep_only(set())
        await jobs

    async def _delete_stale_statuses(self) -> None:
        """Delete the statuses that an earlier agent of this node left: its replicas ended with it."""
        entries = await self._try_bus("replica_status.not_read", self._statuses.entries()) or []
        for entry in entries:
            with suppress(ValidationError):
                if ReplicaStatus.decode(entry.value).node == self._node.id:
                    await self._try_bus(
                        "replica_status.not_deleted", self._statuses.delete(entry.key, entry.revision)
                    )

    async def _watch_assignment(self) -> None:
        async with self._bus.kv(ASSIGNMENTS_BUCKET).watch() as events:
            async for event in events:
                self._on_assignment(event)

    def _on_assignment(self, event: KvEvent) -> None:
        if event.key != self._node.id or event.operation is not KvOperation.PUT:
            return
        try:
            self._desired = NodeAssignment.decode(event.value)
        except ValidationError as error:
            _log.error("assignment.unreadable", error=str(error), consequence="what runs stays as it is")
            return
        replicas, jobs = self._desired.replicas, self._desired.jobs
        _log.info("assignment.received", replicas=[one.id for one in replicas], jobs=[one.id for one in jobs])
        self._changed.set()

    async def _reconcile(self, replicas: LeaseTable[ReplicaStatus]) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_RENEW_S):
                    await self._changed.wait()
            self._changed.clear()
            if self._desired is not None:
                await self._apply(self._desired)
            await self._jobs.write_statuses()
            live = replicas.live()
            for replica in self._replicas.values():
                self._check(replica, live.get(replica.assignment.id))
            await self._write_statuses()

    async def _apply(self, desired: NodeAssignment) -> None:
        # Jobs first: one that stops frees its memory for a replica, and a replica comes before a job that starts.
        replicas = sum(one.resources.memory for one in desired.replicas)
        running = sum(one.assignment.resources.memory for one in self._replicas.values())
        await self._jobs.apply(desired.jobs, self._node.capacity.memory - max(replicas, running))
        existing = {
            key: ExistingReplica(replica.assignment, replica.stopping) for key, replica in self._replicas.items()
        }
        self._deferred.clear()
        gpus = {gpu.id: gpu.memory for gpu in self._node.gpus}
        memory = self._node.capacity.memory - self._jobs.memory
        for instruction in reconcile(desired.replicas, existing, memory=memory, gpus=gpus):
            match instruction:
                case Stop(key):
                    self._stop(self._replicas[key])
                case Start(assignment):
                    await self._start(assignment)
                case Defer(assignment, reason):
                    self._deferred[assignment.id] = self._state(assignment, ReplicaState.STARTING, reason)
        in_use = {replica.assignment.digest for replica in self._replicas.values()}
        await self._fetches.keep_only(in_use | {assignment.digest for assignment in desired.replicas})

    async def _start(self, assignment: ReplicaAssignment) -> None:
        node = self._node
        files = self._fetches.folder(assignment)
        if files is None:
            problem = self._fetches.problem(assignment)
            state = ReplicaState.FAILED if problem else ReplicaState.STARTING
            self._deferred[assignment.id] = self._state(assignment, state, problem or "its files are being fetched")
            return
        spec = ChildSpec(
            name=f"replica {assignment.id}",
            argv=node.replica_command,
            env=replica_environment(
                assignment,
                node=node.id,
                drain_timeout=node.drain_timeout,
                nats_url=node.replica_nats_url,
                files=files,
            ),
            inherits_secrets=False,
            before_start=partial(self._fetches.verify, assignment),
            log=node.log_dir / f"replica-{assignment.id}.log" if node.log_dir else None,
            stop_timeout=node.drain_timeout + REPLICA_CLEAN_UP_S,
        )
        replica = ReplicaProcess(assignment, spec, self._changed.set, load_timeout=node.load_timeout)
        self._replicas[assignment.id] = replica
        try:
            await replica.start()
        except (LlmosError, OSError) as error:
            del self._replicas[assignment.id]
            reason = f"its process could not be started: {error}"
            _log.error("replica.not_started", replica=assignment.id, error=str(error), retrying=True)
            self._deferred[assignment.id] = self._state(assignment, ReplicaState.FAILED, reason)
            return
        status = self._state(assignment, ReplicaState.STARTING)
        replica.status_revision = await self._try_bus(
            "replica_status.not_written", self._statuses.put(status.id, status.encode())
        )

    def _stop(self, replica: ReplicaProcess) -> None:
        replica.stopping = True
        task = asyncio.create_task(self._drain(replica), name=f"stop {replica.assignment.id}")
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _drain(self, replica: ReplicaProcess) -> None:
        key = replica.assignment.id
        try:
            await replica.stop(self._bus)
        finally:
            del self._replicas[key]
            self._changed.set()
        await self._try_bus("replica_status.not_deleted", self._statuses.delete(key))
        _log.info("replica.removed", replica=key)

    def _check(self, replica: ReplicaProcess, status: ReplicaStatus | None) -> None:
        replica.check(status)
        if status is not None and status.state is ReplicaState.FAILED and status.message != replica.failure:
            replica.add_reason(status.message)

    async def _write_statuses(self) -> None:
        """Write the statuses of replicas that can't write their own: they ended, did not start or are silent."""
        for replica in list(self._replicas.values()):
            if replica.stopping:
                continue
            if replica.status_revision is not None:
                await self._renew_status(replica, replica.status_revision)
            elif not replica.running:
                await self._write_status(
                    self._state(replica.assignment, ReplicaState.FAILED, replica.failure, replica.restarts)
                )
            elif replica.silence:
                await self._report_silence(replica)
        for status in list(self._deferred.values()):
            if status.id not in self._replicas:
                await self._write_status(status)

    async def _report_silence(self, replica: ReplicaProcess) -> None:
        """Say in place of the replica that it is unresponsive, unless it has just written its own status again."""
        status = self._unresponsive(replica)
        _log.warning("replica.unresponsive", replica=status.id, silent_s=round(replica.silence), next=status.message)
        with suppress(Conflict):
            replica.status_revision = await self._try_bus(
                "replica_status.not_written", self._statuses.create(status.id, status.encode())
            )

    def _unresponsive(self, replica: ReplicaProcess) -> ReplicaStatus:
        message = f"silent for {replica.silence:.0f} s; it is restarted after {SILENCE_RESTART_S:.0f} s"
        return self._state(replica.assignment, ReplicaState.UNRESPONSIVE, message, replica.restarts)

    async def _renew_status(self, replica: ReplicaProcess, revision: int) -> None:
        """Renew the status that the agent wrote in place of the replica, until the replica writes its own."""
        if replica.silence:
            status = self._unresponsive(replica)
        else:
            status = self._state(replica.assignment, ReplicaState.STARTING)
        try:
            renewed = await self._statuses.update(status.id, status.encode(), revision)
        except Conflict:
            replica.status_revision = None
        except LlmosError as error:
            _log.warning("replica_status.not_written", error=error.message)
        else:
            if replica.status_revision == revision:  # otherwise the process has ended meanwhile
                replica.status_revision = renewed

    def _state(
        self, assignment: ReplicaAssignment, state: ReplicaState, message: str = "", restarts: int = 0
    ) -> ReplicaStatus:
        return assignment.status(self._node.id, state, message, restarts=restarts)

    async def _write_status(self, status: ReplicaStatus) -> None:
        await self._try_bus("replica_status.not_written", self._statuses.put(status.id, status.encode()))

    async def _try_bus(self, event: str, work: Awaitable[Value]) -> Value | None:
        """Log an error of the bus: statuses are written again every second."""
        try:
            return await work
        except LlmosError as error:
            _log.warning(event, error=error.message)
            return None
