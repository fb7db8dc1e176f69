"""A replica that serves a graph with named tensors: loads it, and connects runner, handler and endpoints."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from services.inference.batching.runner import BatchRunner
from services.inference.engine.engine import end_process
from services.inference.replica.batch_replica import BatchReplica
from services.inference.replica.infer.endpoints import endpoints
from services.inference.replica.infer.handler import FinishedRequest, InferHandler, TensorRunner
from services.inference.replica.infer.spans import record
from services.inference.replica.load import report_load
from services.inference.replica.phase_spans import PhaseSpans
from services.inference.replica.settings import Settings
from services.inference.replica.smoke_test import check_tensors
from services.inference.runtime.onnx_tensors import OnnxTensors
from services.inference.tensor.batcher import TensorBatcher
from services.inference.tensor.compute import compute
from services.inference.tensor.limits import TensorLimits
from shared.contracts.manifest import Manifest
from shared.contracts.serving import ReplicaOptions
from shared.service.background import background
from shared.service.context import Context

_log = structlog.get_logger("llmos.replica")


def limits_for(options: ReplicaOptions) -> TensorLimits:
    """The limits that a deployment asks for."""
    default = TensorLimits()
    return TensorLimits(max_batch=options.max_batch or default.max_batch, max_delay_s=options.max_delay_ms / 1000)


@asynccontextmanager
async def serve_tensors(
    context: Context, settings: Settings, manifest: Manifest, folder: Path, *, threads: int
) -> AsyncIterator[BatchReplica]:
    """Load the version and take requests while inside. Raises what `OnnxTensors` raises."""
    assignment, spec = settings.assignment, manifest.the_tensor
    graph = await asyncio.to_thread(OnnxTensors, folder, spec, threads=threads)
    await asyncio.to_thread(check_tensors, graph, spec, manifest.smoke_test)
    limits = limits_for(assignment.options)
    runner: TensorRunner = BatchRunner(
        TensorBatcher(limits),
        lambda batch: compute(graph, batch, max_batch=limits.max_batch),
        graph.close,
        slots=assignment.options.slots,
    )
    spans = PhaseSpans(assignment, settings.node_id)
    handler = InferHandler(runner, spec, assignment.version, lambda finished: _on_finished(spans, finished))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(endpoints(context, assignment.id, handler, runner))
        runner.start()
        stack.push_async_callback(asyncio.to_thread, runner.close)  # before the endpoints, which wait for requests
        reports = report_load(context.bus, assignment, runner.load)
        await stack.enter_async_context(background(reports, "load reports", on_failure=end_process))
        yield BatchReplica(runner)


def _on_finished(spans: PhaseSpans, finished: FinishedRequest) -> None:
    record(spans, finished, end_ns=time.time_ns())
    _log.info(
        "request.finished",
        request_id=finished.request_id,
        operation="infer",
        error=None if finished.error is None else finished.error.code,
        rows=finished.rows,
    )
