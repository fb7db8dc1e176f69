"""A replica that serves an encoder: loads it, and connects runner, handler and endpoints."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.runner import EncoderRunner
from services.inference.engine.engine import end_process
from services.inference.replica.batch_replica import BatchReplica
from services.inference.replica.encode.endpoints import endpoints
from services.inference.replica.encode.handler import EncodeHandler, FinishedRequest
from services.inference.replica.encode.model import load_model
from services.inference.replica.encode.spans import record
from services.inference.replica.encode.tokenization import TokenizationHandler
from services.inference.replica.load import report_load
from services.inference.replica.phase_spans import PhaseSpans
from services.inference.replica.settings import Settings
from services.inference.turns import Turns
from shared.contracts.manifest import Manifest
from shared.contracts.serving import ReplicaOptions
from shared.service.background import background
from shared.service.context import Context

_log = structlog.get_logger("llmos.replica")


def limits_for(options: ReplicaOptions) -> EncoderLimits:
    """The limits that a deployment asks for."""
    return EncoderLimits(max_batch=options.max_batch, max_delay_s=options.max_delay_ms / 1000)


@asynccontextmanager
async def serve_encoder(
    context: Context, settings: Settings, manifest: Manifest, folder: Path, *, threads: int
) -> AsyncIterator[BatchReplica]:
    """Load the version and take requests while inside. Raises what `OnnxEncoder` raises."""
    assignment = settings.assignment
    graph, tokenizer = await asyncio.to_thread(load_model, folder, manifest, assignment, threads=threads)
    limits = limits_for(assignment.options)
    runner = EncoderRunner(graph, limits, max_len=assignment.options.max_len, slots=assignment.options.slots)
    spans = PhaseSpans(assignment, settings.node_id)
    turns = Turns("texts")
    handler = EncodeHandler(
        runner,
        tokenizer,
        manifest.the_encoder,
        turns,
        lambda finished: _on_finished(spans, finished),
        version=assignment.version,
    )
    max_len = assignment.options.max_len
    tokenization = TokenizationHandler(tokenizer, manifest.the_encoder, turns=turns, max_len=max_len)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(endpoints(context, assignment.id, handler, tokenization, runner))
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
        operation=finished.operation,
        error=None if finished.error is None else finished.error.code,
        texts=finished.texts,
        tokens=finished.tokens,
    )
