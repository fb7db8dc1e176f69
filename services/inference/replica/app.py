"""A replica from start to drain: wires the rest."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psutil
import structlog

from services.inference.engine.engine import Engine
from services.inference.engine.limits import EngineLimits
from services.inference.replica.background import background
from services.inference.replica.endpoints import subscribe
from services.inference.replica.frames import Ended
from services.inference.replica.generate import Generator
from services.inference.replica.lease import StatusLease
from services.inference.replica.load import report_load
from services.inference.replica.model import LoadedModel, load_model
from services.inference.replica.prompt import PromptBuilder
from services.inference.replica.publisher import Publisher
from services.inference.replica.sampling import SamplingResolver
from services.inference.replica.serving import CONFIRM_S, Serving
from services.inference.replica.settings import Settings
from services.inference.replica.spans import RequestSpans
from services.inference.replica.version_files import fetch_manifest, version_folder
from services.inference.text.template_process import TemplateProcess
from shared.contracts.manifest import Manifest
from shared.contracts.scheduler import LEASE_TTL_S, REPLICAS_BUCKET, ReplicaAssignment, ReplicaState
from shared.errors import InvalidInput, LlmosError
from shared.service.context import Context
from shared.storage.open import open_store

log = structlog.get_logger("llmos.replica")


@asynccontextmanager
async def app(context: Context, settings: Settings) -> AsyncIterator[None]:
    """Serve the assignment while inside; leaving drains."""
    begun = time.monotonic()
    assignment = settings.assignment
    kv = context.bus.kv(REPLICAS_BUCKET, ttl=LEASE_TTL_S)
    async with AsyncExitStack() as stack:
        lease = await stack.enter_async_context(
            StatusLease(kv, assignment, settings.node_id, restarts=settings.restarts)
        )
        try:
            serving, engine = await _start(context, settings, lease, stack)
        except (LlmosError, OSError) as error:
            message = error.message if isinstance(error, LlmosError) else str(error)
            await lease.become(ReplicaState.FAILED, message)
            raise
        await lease.become(ReplicaState.READY)
        _log_memory(assignment, time.monotonic() - begun)
        try:
            yield
        finally:
            engine.drain()
            await lease.become(ReplicaState.DRAINING)
            await serving.drain(max(0.0, settings.drain_timeout - CONFIRM_S - 1.0))


async def _start(
    context: Context, settings: Settings, lease: StatusLease, stack: AsyncExitStack
) -> tuple[Serving, Engine]:
    """Load and subscribe; what is started is stopped by `stack`."""
    assignment, bus = settings.assignment, context.bus
    await lease.become(ReplicaState.LOADING)
    manifest, model = await _load(settings, stack)
    spans = RequestSpans(assignment, settings.node_id)
    publisher = await stack.enter_async_context(Publisher(bus))
    serving = Serving(assignment.id, publisher, lambda ended: _on_ended(spans, ended))
    limits = limits_for(assignment, kv_per_token=manifest.the_decoder.kv_bytes_per_token)
    engine = Engine(model.decoder, limits, serving.on_step)
    serving.attach(engine)
    engine.start()
    stack.push_async_callback(asyncio.to_thread, engine.close)
    prompts = await _prompts(model, manifest, assignment.max_len, stack)
    generator = Generator(
        serving,
        engine,
        prompts=prompts,
        tokenizer=model.tokenizer,
        sampling=SamplingResolver(manifest.defaults, manifest.the_decoder, max_len=assignment.max_len),
    )
    await stack.enter_async_context(background(serving.watch(lambda: bus.connected), "watch deadlines and gateways"))
    await stack.enter_async_context(background(report_load(bus, assignment, engine.load), "report the load"))
    await subscribe(context, assignment.id, generator, serving)
    return serving, engine


async def _load(settings: Settings, stack: AsyncExitStack) -> tuple[Manifest, LoadedModel]:
    assignment = settings.assignment
    secret = settings.s3_secret_key
    store = open_store(
        settings.store_url,
        access_key=settings.s3_access_key,
        secret_key=None if secret is None else secret.get_secret_value(),
        cache_limit=settings.cache_limit,
    )
    manifest = await fetch_manifest(store, assignment)
    folder = await stack.enter_async_context(version_folder(store, manifest, assignment.digest, settings.cache_dir))
    threads = assignment.resources.threads or os.cpu_count() or 1
    return manifest, await asyncio.to_thread(load_model, folder, manifest, assignment, threads=threads)


async def _prompts(model: LoadedModel, manifest: Manifest, max_len: int, stack: AsyncExitStack) -> PromptBuilder:
    """Try the template once: the worker is up then, and the log says at start if the template is no good."""
    if model.template is None:
        return PromptBuilder(model.tokenizer, None, manifest.the_decoder, max_len=max_len)
    template = await stack.enter_async_context(
        TemplateProcess(model.template, bos_token=model.bos_token, eos_token=model.eos_token)
    )
    try:
        await template.render([{"role": "user", "content": "Hello"}])
    except InvalidInput as error:
        log.warning("template_refused", error=error.message)
    return PromptBuilder(
        model.tokenizer,
        template,
        manifest.the_decoder,
        max_len=max_len,
        knows_developer="developer" in model.template,
    )


def limits_for(assignment: ReplicaAssignment, *, kv_per_token: int) -> EngineLimits:
    """The engine's default bounds, with room for all slots and one chunk of a prompt in each step.

    The prefix cache gets as many blocks as its part of the grant holds, at `kv_per_token` bytes a token.
    """
    default = EngineLimits()
    return EngineLimits(
        step_tokens=max(default.step_tokens, assignment.slots + default.prefill_chunk),
        cache_blocks=assignment.prefix_cache_bytes // (kv_per_token * default.prefill_chunk),
    )


def _on_ended(spans: RequestSpans, ended: Ended) -> None:
    stream, error = ended.stream, ended.ending.error
    spans.record(ended, end_ns=time.time_ns())
    log.info(
        "request_ended",
        request_id=stream.request_id,
        reason=ended.ending.reason.value,
        error=None if error is None else error.code,
        prompt_tokens=stream.prompt_tokens,
        completion_tokens=stream.answer.tokens,
        resumed_tokens=stream.resumed_tokens,
    )


def _log_memory(assignment: ReplicaAssignment, seconds: float) -> None:
    resident, granted = psutil.Process().memory_info().rss, assignment.resources.memory
    log.info("replica_ready", seconds=round(seconds, 2), resident_bytes=resident, granted_bytes=granted)
    if granted and resident > granted:
        log.warning("memory_above_grant", resident_bytes=resident, granted_bytes=granted)
