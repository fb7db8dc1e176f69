"""Connects the node agent to the bus and to its settings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace

from services.inference.agent.agent import Node, NodeAgent
from services.inference.agent.cached_blobs import CachedBlobs
from services.inference.agent.gpus import find_gpus
from services.inference.agent.job_needs import find_lacking
from services.inference.agent.job_process import JobCommand
from services.inference.agent.machine import offering
from services.inference.settings import Settings, whole_machine
from shared.bus import rpc
from shared.contracts.resources import Resources
from shared.contracts.scrub import check_cached_blob
from shared.deadlines import AGENT_RECORD_S
from shared.errors import InvalidInput
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
            _job_environment(settings),
        ),
        training_address=settings.training_address,
        log_dir=settings.log_dir,
        gpus=gpus,
        lacking=lacking,
    )
    drain_timeout = max(0.0, settings.drain_timeout - AGENT_RECORD_S)
    cached = CachedBlobs(settings.cache_dir)
    with _share_of_machine(settings, node) as node_id:
        node = replace(node, id=node_id)
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


def _share_of_machine(settings: Settings, node: Node) -> AbstractContextManager[str]:
    """Offers what the node has beside the other nodes of the machine, where they share a folder; the node's id."""
    if settings.machine_dir is None:
        return nullcontext(node.id)
    kind = "gpu" if node.gpus else "node"
    return offering(settings.machine_dir, node.capacity, whole_machine(), kind, settings.given_node_id)


def _job_environment(settings: Settings) -> dict[str, str]:
    """What a job's process has beside the agent's environment: in compose, a user of the store that may write."""
    environment = {"LLMOS_TRAINING_ADDRESS": settings.training_address}
    key, secret = settings.job_s3_access_key, settings.job_s3_secret_key
    if (key is None) != (secret is None):
        raise InvalidInput(
            "LLMOS_INFERENCE_JOB_S3_ACCESS_KEY and LLMOS_INFERENCE_JOB_S3_SECRET_KEY: set both or none",
            param="LLMOS_INFERENCE_JOB_S3_ACCESS_KEY",
        )
    if key is not None and secret is not None:
        environment |= {"LLMOS_S3_ACCESS_KEY": key, "LLMOS_S3_SECRET_KEY": secret.get_secret_value()}
    return environment
