"""The gateway's composition root: the only place that connects its parts."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from services.gateway.admin import routes as admin
from services.gateway.anthropic import routes as anthropic
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.encodings import Encodings
from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.tensors import Tensors
from services.gateway.dispatch.tokenizations import Tokenizations
from services.gateway.http import health
from services.gateway.http.app import make_app
from services.gateway.http.server import listen, serving
from services.gateway.keys import KeyStore, read_key
from services.gateway.limits.descriptors import connections_allowed
from services.gateway.limits.networks import LOOPBACK
from services.gateway.limits.places import Places
from services.gateway.metrics import Metrics
from services.gateway.ollama import routes as ollama
from services.gateway.open_inference import routes as open_inference
from services.gateway.open_inference.inference import Inference
from services.gateway.open_inference.models import Models
from services.gateway.open_inference.rpc.server import serving as serving_rpc
from services.gateway.open_inference.rpc.service import Service
from services.gateway.openai import routes as openai
from services.gateway.openai.fine_tuning import routes as fine_tuning
from services.gateway.openai.responses import routes as responses
from services.gateway.refused_logins import RefusedLogins
from services.gateway.routing.live_table import LiveTable
from services.gateway.routing.seen_replicas import SeenReplicas
from services.gateway.routing.start_up import StartUp
from services.gateway.settings import Settings
from services.gateway.system_metrics import SystemMetrics
from shared.service.context import Context
from shared.storage.open import open_store

_log = structlog.get_logger("llmos.gateway")


@asynccontextmanager
async def app(context: Context, settings: Settings) -> AsyncIterator[None]:
    """Run the gateway while the block runs; raises what `gateway` raises."""
    async with gateway(context, settings):
        yield


@asynccontextmanager
async def gateway(context: Context, settings: Settings) -> AsyncIterator[str]:
    """Run the gateway while the block runs; yields its URL.

    Wrong settings fail at once, before the bus is needed. Leaving stops accepting and lets streams finish within the
    drain timeout.

    Raises:
        Conflict: The port is in use.
        InvalidInput: The address, the admin key file or the store's URL is wrong.
    """
    if settings.auth == "off":
        _log.warning(
            "authentication.off",
            host=settings.host,
            port=settings.port,
            consequence="every client that reaches this port may do everything",
        )
    if settings.admin_key_file is not None:
        read_key(settings.admin_key_file)
    store = None
    if settings.store_url is not None:
        store = open_store(settings.store_url, access_key=settings.s3_access_key, secret_key=settings.s3_secret_key)
    listening = listen(settings.host, settings.port)
    async with AsyncExitStack() as stack:
        stack.callback(listening.close)
        metrics = Metrics(by_key=settings.metrics_by_key)
        keys = await stack.enter_async_context(KeyStore(context.bus, context.trail("keys")).running())
        if settings.admin_key_file is not None:
            await keys.ensure(settings.admin_key_file)
        table = await stack.enter_async_context(LiveTable(context.bus).running())
        dispatcher = await stack.enter_async_context(
            Dispatcher(context.bus, table, metrics, gateway_id=context.instance, limits=settings.limits).running()
        )
        table.follow(SeenReplicas(lambda: table.deployments))
        metrics.show_disk(context.disk)
        metrics.name_models(lambda: table.deployments)
        metrics.show_system(SystemMetrics(context.bus, table))
        metrics.show_replicas(table.loads, lambda: context.bus.connected)
        context.readiness.probe("routing table", lambda: None if table.synced else "not read yet")
        start_up = StartUp(table, settings.await_deployments, time.monotonic)
        context.readiness.probe("deployments", start_up.problem)
        context.readiness.probe("API keys", lambda: None if keys.synced else "not read yet")
        generations = Generations(dispatcher, settings.request_timeout)
        encodings = Encodings(dispatcher, settings.request_timeout)
        tokenizations = Tokenizations(dispatcher, settings.request_timeout)
        tensors = Tensors(dispatcher, settings.request_timeout)
        models = Models(table, tensors)
        inference = Inference(models, tensors, encodings)
        stored = responses.running(
            context.bus,
            generations,
            gateway_id=context.instance,
            may_store=keys.may_store,
            limits=settings.stored,
            max_body=settings.max_body,
        )
        operations = [
            *await stack.enter_async_context(stored),
            *openai.routes(generations, encodings, tokenizations, table, settings.max_body),
            *anthropic.routes(generations, tokenizations, settings.max_body),
            *ollama.routes(
                generations, encodings, tokenizations, table=table, bus=context.bus, max_body=settings.max_body
            ),
            *open_inference.routes(models, inference, lambda: context.readiness.reasons, settings.max_body),
            *fine_tuning.routes(
                context.bus,
                context.trail(),
                table,
                store,
                max_body=settings.max_body,
                max_file=settings.max_file,
            ),
            *admin.routes(context.bus, keys, store, settings.max_body),
            *health.routes(lambda: context.readiness.reasons, context.disk, metrics),
        ]
        known = keys if settings.auth == "on" else None
        refused = await stack.enter_async_context(RefusedLogins(context.trail("logins")).running())
        http = make_app(
            operations,
            keys=known,
            metrics=metrics,
            refused=refused,
            cors_origins=settings.allowed_origins,
            trust_trace_context=settings.trust_trace_context,
        )
        places = Places(
            connections_allowed(settings.max_connections),
            settings.max_connections_per_address,
            LOOPBACK + settings.proxies,
        )
        metrics.show_connections(places)
        rpc = None
        if settings.grpc_port != "off":
            rpc = await stack.enter_async_context(
                serving_rpc(
                    Service(models, inference, lambda: context.readiness.reasons, settings.max_body),
                    host=settings.host,
                    port=settings.grpc_port,
                    keys=known,
                    metrics=metrics,
                    refused=refused,
                    reasons=lambda: context.readiness.reasons,
                    grace=settings.drain_timeout,
                )
            )
        url = await stack.enter_async_context(
            serving(http, listening, settings.drain_timeout, settings.time_limits, places, proxies=settings.proxies)
        )
        try:
            yield url
        finally:
            if rpc is not None:
                rpc.stop()  # while HTTP drains
