"""A replica that serves an encoder: wires runner, tokenizer and subjects."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.runner import EncoderRunner
from services.inference.encoder.tokens import EncoderTokenizer
from services.inference.replica.background import background
from services.inference.replica.encode.handler import Encoding, EncodingEnded
from services.inference.replica.encode.spans import EncodingSpans
from services.inference.replica.load import report_load
from services.inference.replica.model import TOKENIZER_FILE
from services.inference.replica.settings import Settings
from services.inference.runtime.onnx_encoder import OnnxEncoder
from shared.bus import rpc
from shared.contracts.base import Empty
from shared.contracts.embedding import classify_endpoint, embed_endpoint
from shared.contracts.manifest import Manifest
from shared.contracts.replica import Cancel, cancel_endpoint, drain_endpoint
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import CorruptFile
from shared.service.context import Context

log = structlog.get_logger("llmos.replica")


class EncoderReplica:
    """What runs while an encoder is served."""

    def __init__(self, runner: EncoderRunner) -> None:
        self._runner = runner

    def refuse(self) -> None:
        """Take nothing new."""
        self._runner.drain()

    async def drain(self, grace: float) -> None:
        """Let what is here finish for `grace` seconds; the rest ends with a retryable error at the close."""
        if not await asyncio.to_thread(self._runner.wait_idle, grace):
            log.warning("drain_time_over", grace_s=grace)


async def start_encoder(
    context: Context, settings: Settings, manifest: Manifest, folder: Path, *, threads: int, stack: AsyncExitStack
) -> EncoderReplica:
    """Load and subscribe; what is started is stopped by `stack`. Raises what `OnnxEncoder` raises."""
    assignment, bus, spec = settings.assignment, context.bus, manifest.the_encoder
    graph, tokenizer = await asyncio.to_thread(_load, folder, manifest, assignment, threads)
    runner = EncoderRunner(graph, EncoderLimits(), max_len=assignment.options.max_len, slots=assignment.options.slots)
    runner.start()
    stack.push_async_callback(asyncio.to_thread, runner.close)
    spans = EncodingSpans(assignment, settings.node_id)

    def on_ended(ended: EncodingEnded) -> None:
        spans.record(ended, end_ns=time.time_ns())
        log.info(
            "request_ended",
            request_id=ended.request_id,
            operation=ended.operation,
            error=None if ended.error is None else ended.error.code,
            texts=ended.texts,
            tokens=ended.tokens,
        )

    encoding = Encoding(runner, tokenizer, spec, on_ended)

    async def cancel(request: Cancel) -> Empty:
        encoding.cancel(request.request_id)
        return Empty()

    async def drain(_: Empty) -> Empty:
        runner.drain()
        context.stop()
        return Empty()

    await stack.enter_async_context(background(report_load(bus, assignment, runner.load), "report the load"))
    await rpc.respond(bus, cancel_endpoint(assignment.id), cancel)
    await rpc.respond(bus, drain_endpoint(assignment.id), drain)
    await rpc.respond(bus, embed_endpoint(assignment.id), encoding.embed)
    await rpc.respond(bus, classify_endpoint(assignment.id), encoding.classify)
    return EncoderReplica(runner)


def _load(
    folder: Path, manifest: Manifest, assignment: ReplicaAssignment, threads: int
) -> tuple[OnnxEncoder, EncoderTokenizer]:
    """Read the files, and compute a text so that the first request finds everything warm."""
    spec = manifest.the_encoder
    if TOKENIZER_FILE not in {file.path for file in manifest.files}:
        raise CorruptFile(f"the version has no {TOKENIZER_FILE}; import the model again")
    tokenizer = EncoderTokenizer.from_file(
        folder / TOKENIZER_FILE, vocab_size=spec.vocab_size, max_len=assignment.options.max_len
    )
    graph = OnnxEncoder(folder, spec, threads=threads)
    graph.run(tokenizer.ids([[0] * min(8, assignment.options.max_len)]))
    return graph, tokenizer
