"""A replica from start to drain: serves the version that the agent handed over, as its manifest says."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import structlog
from opentelemetry import trace

from services.inference.replica.encode.replica import serve_encoder
from services.inference.replica.generate.replica import serve_decoder
from services.inference.replica.infer.replica import serve_tensors
from services.inference.replica.lease import StatusLease
from services.inference.replica.memory import MemoryWatch
from services.inference.replica.settings import Settings
from services.inference.replica.span_attributes import replica_attributes
from services.inference.replica.stall_watch import StallWatch
from services.inference.replica.version import read_manifest
from shared.contracts.manifest import Manifest
from shared.contracts.scheduler import REPLICAS_BUCKET, ReplicaState
from shared.deadlines import ENGINE_CONFIRM_S, LEASE_TTL_S, REPLICA_RECORD_S
from shared.errors import LlmosError
from shared.service.context import Context
from shared.telemetry import origins

_log = structlog.get_logger("llmos.replica")
_tracer = trace.get_tracer("llmos.replica")


class Replica(Protocol):
    """A version that takes requests."""

    @property
    def chars_per_token(self) -> int:
        """Characters of text that one token stands for, at most; 0: longer texts are cut, and so taken."""
        ...

    def stalled_s(self) -> float:
        """Seconds without a step if it has stalled, else 0."""
        ...

    def stop_accepting(self) -> None:
        """Reject new requests."""
        ...

    async def drain(self, grace: float) -> None:
        """Let requests finish for `grace` seconds; hand the rest back with a retryable error."""
        ...


class Serve(Protocol):
    """Serves a version of one kind."""

    def __call__(
        self, context: Context, settings: Settings, manifest: Manifest, folder: Path, /, *, threads: int
    ) -> AbstractAsyncContextManager[Replica]:
        """Load the version and take requests while inside."""
        ...


@asynccontextmanager
async def app(context: Context, settings: Settings) -> AsyncIterator[None]:
    """Serve the assignment while inside; leaving drains."""
    begun = time.monotonic()
    assignment = settings.assignment
    kv = context.bus.kv(REPLICAS_BUCKET, ttl=LEASE_TTL_S)
    async with AsyncExitStack() as stack:
        status = StatusLease(kv, assignment, settings.node_id, restarts=settings.restarts)
        lease = await stack.enter_async_context(status.running())
        name = f"start {assignment.deployment}" if not settings.restarts else f"restart {assignment.deployment}"
        about = replica_attributes(assignment, settings.node_id)
        with origins.working(_tracer, name, assignment.origin, about) as span:
            try:
                replica = await _start(context, settings, lease, stack)
            except (LlmosError, OSError) as error:
                message = error.message if isinstance(error, LlmosError) else str(error)
                await lease.become(ReplicaState.FAILED, message)
                raise
            lease.describe(chars_per_token=replica.chars_per_token)
            await lease.become(ReplicaState.READY)
            span.add_event("ready")
        _log.info("replica.ready", seconds=round(time.monotonic() - begun, 2))
        await stack.enter_async_context(MemoryWatch(assignment.resources.memory, lease).running())
        await stack.enter_async_context(StallWatch(replica.stalled_s, lease, context.readiness).running())
        try:
            yield
        finally:
            replica.stop_accepting()
            await lease.become(ReplicaState.DRAINING)
            await replica.drain(max(0.0, settings.drain_timeout - ENGINE_CONFIRM_S - REPLICA_RECORD_S))


async def _start(context: Context, settings: Settings, lease: StatusLease, stack: AsyncExitStack) -> Replica:
    """Load the version and take requests until `stack` is closed."""
    await lease.become(ReplicaState.LOADING)
    manifest = read_manifest(settings.files)
    threads = settings.assignment.resources.threads or os.cpu_count() or 1
    return await stack.enter_async_context(
        _serving(manifest)(context, settings, manifest, settings.files, threads=threads)
    )


def _serving(manifest: Manifest) -> Serve:
    if manifest.tensor is not None:
        return serve_tensors
    return serve_decoder if manifest.encoder is None else serve_encoder
