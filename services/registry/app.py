"""The registry from start to drain: wires the rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from services.registry.blob_checks import StoreBlobs
from services.registry.rebuild import rebuild
from services.registry.records import Records
from services.registry.service import RegistryService
from services.registry.settings import Settings
from services.registry.snapshots import SnapshotWriter
from shared.bus.port import Bus
from shared.contracts.registry import CATALOGUES
from shared.contracts.state import SystemRecord
from shared.errors import LlmosError
from shared.service.background import background
from shared.service.context import Context
from shared.service.readiness import Readiness
from shared.service.scrub import Scrubber
from shared.state.reading import plural
from shared.state.system import bus_record, require_pairing, store_record
from shared.storage.open import open_store
from shared.storage.port import ArtifactStore

_log = structlog.get_logger("llmos.registry")
_FIRST_CHECK = 0.5
"""Seconds between two looks at a store that was not there yet."""


@asynccontextmanager
async def app(context: Context, settings: Settings) -> AsyncIterator[None]:
    """Serve the registry. Waits for the store first: without it no model can be resolved."""
    store = open_store(settings.store_url, access_key=settings.s3_access_key, secret_key=settings.s3_secret_key)
    while not await _check(store, context.readiness):  # noqa: ASYNC110  # a store has no event for its return
        await asyncio.sleep(_FIRST_CHECK)
    system = await bus_record(context.bus)
    while (problem := await _refusal(context.bus, system, store)) is not None:
        _log.error("registry.refuses_to_start", reason=problem, retrying=True)
        context.readiness.set("control state", problem)
        await asyncio.sleep(settings.store_check)
        system = await bus_record(context.bus)
    context.readiness.set("control state", None)
    for catalogue in CATALOGUES:
        await rebuild(Records(context.bus, catalogue.bucket, context.trail()), store, catalogue)
    snapshots = SnapshotWriter(
        context.bus,
        store,
        system,
        interval=settings.snapshot_interval,
        number=settings.snapshot_number,
        days=settings.snapshot_days,
    )
    scrubber = Scrubber(
        context.bus,
        StoreBlobs(store),
        service="registry",
        actor=context.instance,
        node=None,
        rate=settings.scrub_rate,
        interval=settings.scrub_interval,
    )
    async with (
        snapshots.running(),
        background(scrubber.run(), "scrub the store"),
        background(_watch(store, context.readiness, settings.store_check), "watch the store"),
        RegistryService(context.bus, store, actor=context.instance).running(),
    ):
        yield


async def _refusal(bus: Bus, system: SystemRecord | None, store: ArtifactStore) -> str | None:
    """Why the registry must not serve this bus with this store; None: it may."""
    try:
        stored = await store_record(store)
        require_pairing({"the bus": system.id if system else None, "the store": stored.id if stored else None})
        if system is None and not any([await Records(bus, one.bucket).all() for one in CATALOGUES]):
            versions = sum([len(await store.manifests(one.kind)) for one in CATALOGUES])
            if stored is not None or versions:
                return (
                    f"control state is lost: the store has {plural(versions, 'version')}, and the bus is empty;"
                    " docs/operations.md has how to restore it"
                )
    except LlmosError as error:
        return error.message
    return None


async def _watch(store: ArtifactStore, readiness: Readiness, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        await _check(store, readiness)


async def _check(store: ArtifactStore, readiness: Readiness) -> bool:
    problem = await store.ready()
    if problem is not None:
        _log.warning("store.unavailable", reason=problem)
    readiness.set("store", problem)
    return problem is None
