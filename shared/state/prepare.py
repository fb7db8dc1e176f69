"""What the owner of a bus does before services start: makes the buckets, and sees that they hold what they should.

    make buckets -> which system? -> anything lost? -> an earlier format? -> write the system into store and bus

A start that would begin empty over a store with models is refused. A bus of an earlier format is backed up, then
migrated.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from shared.audit.trail import Trail
from shared.bus.access.provision import make_all
from shared.bus.nats.bus import NatsBus
from shared.contracts.events import CHAINS
from shared.contracts.state import FORMAT, ControlState, SystemRecord
from shared.errors import Conflict, Unavailable
from shared.state.migrations import migrate
from shared.state.reading import record_bytes
from shared.state.snapshots import Snapshots
from shared.state.system import Findings, bus_record, examine, new_record, require_pairing, stamp
from shared.storage.port import ArtifactStore
from shared.version import llmos_version

_log = structlog.get_logger("llmos.state")

Save = Callable[[ControlState], Awaitable[None]]
"""Called with control state that is about to be migrated."""


async def prepare(
    bus: NatsBus,
    store: ArtifactStore,
    *,
    now: datetime,
    store_name: str,
    home: tuple[str, str | None] | None = None,
    command: str = "llmos restore",
    save: Save | None = None,
) -> SystemRecord:
    """Make bus and store ready for the services; returns the system that both belong to.

    Args:
        bus: A connection of the owner.
        store: The artifact store.
        now: In UTC.
        store_name: How messages call the store.
        home: How messages call the home of an embedded system, and the id in it, if it has one.
        command: What restores, as a person types it.
        save: Where control state of an earlier format goes besides a snapshot.

    Raises:
        Unavailable: Control state is lost; or the store can't be written to, and the bus has no system yet.
        Conflict: Home, bus and store do not belong to one system.
        UnsupportedFormat: A newer LLMOS wrote one of them.
    """
    await make_all(bus)
    if (reason := await store.ready()) is not None:
        record = await bus_record(bus)
        if record is None or record.format < FORMAT:
            raise Unavailable(reason)
        _log.warning("state.not_compared", reason=reason, consequence="what the bus has lost is not noticed")
        return record
    found = await examine(bus, store, now)
    _check(found, store_name, home, command)
    if found.record is not None and found.record.format == FORMAT and found.store_record is not None:
        return found.record
    record = found.record or new_record(now, system=(home[1] if home else None) or found.store_system)
    record = record.model_copy(update={"format": FORMAT, "llmos": llmos_version()})
    if not found.empty and (found.record is None or found.record.format < FORMAT):
        await _migrate(bus, store, found, save)
    await stamp(bus, store, record)
    return record


def _check(found: Findings, store_name: str, home: tuple[str, str | None] | None, command: str) -> None:
    ids = {"the bus": found.bus_system, f"the store {store_name}": found.store_system}
    require_pairing(({home[0]: home[1]} if home else {}) | ids)
    problem = found.problem
    if problem is None and home and home[1] and found.record is None and found.empty and found.store_record is None:
        problem = f"control state is lost: {home[0]} belongs to {home[1]}, and its bus and its store are empty"
    if problem is not None:
        source = "restores it" if found.snapshot is not None else "FILE restores a backup"
        raise Unavailable(f"{problem}. '{command}' {source}; '{command} --accept' goes on with what is left")
    has_versions = any(found.buckets[name].entries for name in ("LLMOS_MODELS", "LLMOS_DATASETS", "LLMOS_REPORTS"))
    if found.store_record is None and has_versions and not found.own_versions:
        raise Conflict(
            f"the store {store_name} has none of the versions that the bus has records of: name the store of this"
            f" system, restore a backup with its files ('{command} FILE'), or go on without ('{command} --accept')"
        )


async def _migrate(bus: NatsBus, store: ArtifactStore, found: Findings, save: Save | None) -> None:
    before = found.state
    await Snapshots(store).write(before)
    if save is not None:
        await save(before)
    after = migrate(before)
    formats = {"from_format": str(before.format), "to_format": str(FORMAT)}
    await Trail(bus, CHAINS["owner"], actor="migration").record("state.migrated", "control state", **formats)
    for name, bucket in after.buckets.items():
        known = {old.key: old for old in before.records(name)}
        for new in bucket.records:
            if new != known.get(new.key):
                await bus.kv(name).put(new.key, record_bytes(new))
        for key in known.keys() - {new.key for new in bucket.records}:
            await bus.kv(name).delete(key)
    _log.warning("state.migrated", from_format=before.format, to_format=FORMAT)
