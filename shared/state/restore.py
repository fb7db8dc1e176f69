"""Control state and files from a snapshot or a backup, into a bus and a store."""

from datetime import datetime
from pathlib import Path

from shared.audit.person import person
from shared.audit.trail import Trail
from shared.bus.access.stored import BUCKETS
from shared.bus.nats.bus import NatsBus
from shared.contracts.events import CHAINS
from shared.contracts.manifest import Kind
from shared.contracts.scheduler import LEASES_BUCKET
from shared.contracts.state import ControlState, SystemRecord
from shared.errors import Conflict, InvalidInput, NotFound
from shared.state.archive import ArchiveReader
from shared.state.migrations import migrate
from shared.state.reading import read_state, record_bytes, summary
from shared.state.snapshots import Snapshot, Snapshots, parse_state
from shared.state.system import Findings, new_record, stamp
from shared.storage.layout import parse_blob_key, parse_manifest_key
from shared.storage.port import ArtifactStore


async def chosen(source: str | None, store: ArtifactStore) -> ControlState:
    """The control state in a backup's file, in the snapshot of this name, or in the newest snapshot.

    Raises:
        NotFound: There is none.
        CorruptFile: It was damaged or cut off.
        UnsupportedFormat: A newer LLMOS wrote it.
    """
    snapshot = Snapshot.parse(source) if source is not None else None
    if snapshot is not None:
        return await Snapshots(store).read(snapshot)
    if source is not None:
        with ArchiveReader(Path(source)) as archive:
            return parse_state(archive.state(), source)
    newest = await Snapshots(store).newest()
    if newest is None:
        raise NotFound(
            "the store has no snapshot; give the file of a backup, or '--accept' to go on with what is left"
        )
    return newest


def require_replaceable(found: Findings, *, replace: bool) -> None:
    """Raise `Conflict` if a bus holds control state that is whole, unless it may be replaced."""
    if not found.empty and found.problem is None and not replace:
        raise Conflict(
            f"there is control state, and nothing of it is known to be lost: {summary(found.state)};"
            " give --replace to restore in its place"
        )


async def require_quiet(bus: NatsBus) -> None:
    """Raise `Conflict` if services use the bus: they would not see what is restored below them."""
    if await bus.kv(LEASES_BUCKET).entries():
        raise Conflict("the services run: stop them, and leave the bus and the store running")


async def restore_state(
    bus: NatsBus, store: ArtifactStore, state: ControlState, *, now: datetime, system: str | None = None
) -> SystemRecord:
    """Put control state into a bus in place of what it holds, and begin a new life of that bus.

    Until the end the bus has no system, so a restore that was interrupted is noticed at the next start.

    Args:
        bus: A connection of its owner; all buckets have been made, and no service runs.
        store: Takes the system, and a snapshot.
        state: Of this format or an earlier one.
        now: In UTC.
        system: Its id, where `state` has none.

    Raises:
        NotRecorded: The event can't be stored; nothing was changed.
    """
    state = migrate(state)
    records = sum(len(held.records) for held in state.buckets.values())
    trail = Trail(bus, CHAINS["owner"], actor="restore")
    await trail.record("state.restored", state.system or system or "unknown", by=person(), records=str(records))
    for bucket in BUCKETS:
        await bus.kv(bucket.name).clear()
    for name, held in state.buckets.items():
        for record in held.records:
            await bus.kv(name).put(record.key, record_bytes(record))
    new = new_record(now, system=state.system or system)
    await stamp(bus, store, new)
    await Snapshots(store).write(await read_state(bus, new, now))
    return new


async def restore_files(path: Path, store: ArtifactStore) -> int:
    """Put the manifests and blobs of a backup into a store; returns how many blobs. What is there stays."""
    blobs = 0
    with ArchiveReader(path) as archive:
        for name in archive.names:
            if (digest := parse_blob_key(name)) is not None:
                await store.put_blob(digest, archive.chunks(name), size=archive.size_of(name))
                blobs += 1
            elif (manifest := _manifest(name)) is not None:
                await store.put_manifest(manifest[1], manifest[2], archive.verified(name), manifest[0])
    return blobs


def is_file(source: str | None) -> bool:
    """Whether a source of `chosen` is a backup's file; raises `InvalidInput` for an empty one."""
    if source == "":
        raise InvalidInput("it is empty; give a backup's file or a snapshot", param="source")
    return source is not None and Snapshot.parse(source) is None


def _manifest(name: str) -> tuple[Kind, str, int] | None:
    for kind in Kind:
        if (found := parse_manifest_key(name, kind)) is not None:
            return kind, *found
    return None
