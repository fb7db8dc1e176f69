"""Connects the node agent to the bus and to its settings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.inference.agent.agent import Node, NodeAgent
from services.inference.agent.cached_blobs import CachedBlobs
from services.inference.agent.gpus import find_gpus
from services.inference.agent.job_needs import find_lacking
from services.inference.agent.job_process import JobCommand
from services.inference.settings import Settings
from shared.bus import rpc
from shared.contracts.resources import Resources
from shared.contracts.scrub import check_cached_blob
from shared.deadlines import AGENT_RECORD_S
from shared.service.background import background
from shared.service.context import Context
from shared.service.scrub import Scrubber
from shared.storage.open import open_store


@asynccontextmanager
async def app(context: Context, settings: Settings) -> AsyncIterator[None]:
    """Runs this node's replicas; leaving drains them within the service's drain time."""
    gpus, lacking = await asyncio.gather(asyncio.to_thread(find_gpus), find_lacking(settings.job_command))
    secret = settings.s3_secret_key
    store = open_store(
        settings.store_url,
        access_key=settings.s3_access_key,
        secret_key=None if secret is None else secret.get_secret_value(),
        cache_limit=settings.cache_limit,
    )
    node = Node(
        id=settings.node_id,
        instance=context.instance,
        capacity=Resources(memory=settings.memory, threads=settings.threads),
        replica_command=settings.replica_command,
        replica_nats_url=settings.replica_nats_url.get_secret_value()
        if settings.replica_nats_url
        else settings.nats_url,
        store=store,
        cache_dir=settings.cache_dir,
        drain_timeout=settings.replica_drain,
        load_timeout=settings.load_timeout,
        jobs=JobCommand(
            settings.job_command,
            settings.job_dir,
            settings.log_dir,
            {"LLMOS_TRAINING_ADDRESS": settings.training_address},
        ),
        training_address=settings.training_address,
        log_dir=settings.log_dir,
        gpus=gpus,
        lacking=lacking,
    )
    drain_timeout = max(0.0, settings.drain_timeout - AGENT_RECORD_S)
    cached = CachedBlobs(settings.cache_dir)
    scrubber = Scrubber(
        context.bus,
        cached,
        service="inference",
        actor=context.instance,
        node=node.id,
        rate=settings.scrub_rate,
        interval=settings.scrub_interval,
    )
    async with (
        NodeAgent(context.bus, node).running(drain_timeout=drain_timeout),
        rpc.serve(context.bus, {check_cached_blob(node.id): cached.check_blob}),
        background(scrubber.run(), "scrub the cache"),
    ):
        yield
