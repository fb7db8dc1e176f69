"""Which system a bus and a store belong to, and what is found in them at a start."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.bus.nats.bus import NatsBus
from shared.bus.nats.kv import WholeBucket
from shared.bus.port import Bus
from shared.contracts.manifest import Kind
from shared.contracts.registry import CATALOGUES
from shared.contracts.state import (
    FORMAT,
    SYSTEM_BUCKET,
    SYSTEM_KEY,
    ControlState,
    Stamp,
    SystemRecord,
    check_format,
)
from shared.errors import Conflict
from shared.state.loss import losses
from shared.state.reading import CONTROL_BUCKETS, bucket_state, plural, summary
from shared.state.snapshots import Snapshots
from shared.storage.layout import SYSTEM
from shared.storage.port import ArtifactStore
from shared.version import llmos_version


def new_record(now: datetime, *, system: str | None = None) -> SystemRecord:
    """A new system, or a new life of the bus of `system`, an id."""
    return SystemRecord(
        format=FORMAT,
        llmos=llmos_version(),
        id=system or f"system-{secrets.token_hex(4)}",
        bus=f"bus-{secrets.token_hex(4)}",
        created_at=now,
    )


async def bus_record(bus: Bus) -> SystemRecord | None:
    """The system of a bus; raises `UnsupportedFormat` when a newer LLMOS wrote its records."""
    entry = await bus.kv(SYSTEM_BUCKET).get(SYSTEM_KEY)
    if entry is None:
        return None
    check_format(Stamp.decode(entry.value), "the bus")
    return SystemRecord.decode(entry.value)


async def store_record(store: ArtifactStore) -> SystemRecord | None:
    """The system of a store; raises `UnsupportedFormat` when a newer LLMOS wrote it."""
    data = await store.get_document(SYSTEM)
    if data is None:
        return None
    check_format(Stamp.decode(data), "the store")
    return SystemRecord.decode(data)


async def stamp(bus: NatsBus, store: ArtifactStore, record: SystemRecord) -> None:
    """Write the system into the store, then into the bus: a bus is complete when it has a record."""
    await store.put_document(SYSTEM, record.model_copy(update={"bus": ""}).encode())
    await bus.kv(SYSTEM_BUCKET).put(SYSTEM_KEY, record.encode())


def require_pairing(systems: Mapping[str, str | None]) -> None:
    """Raise `Conflict` unless all that are known are one system.

    Args:
        systems: The id by what has it: `the home /srv/llmos`; None: it has none yet.
    """
    known = [(where, system) for where, system in systems.items() if system is not None]
    for where, system in known[1:]:
        first, expected = known[0]
        if system != expected:
            raise Conflict(
                f"{first} belongs to {expected}, and {where} to {system}: name the one that belongs to {expected}, or"
                " restore a backup into an empty one ('llmos restore FILE')"
            )


@dataclass(frozen=True, slots=True)
class Findings:
    """A bus and its store at a start, before any service writes."""

    record: SystemRecord | None
    """Of the bus."""
    store_record: SystemRecord | None
    buckets: Mapping[str, WholeBucket]
    versions: int
    """Manifests in the store, of all kinds."""
    own_versions: int
    """Manifests in the store that the bus has a record of."""
    examined_at: datetime
    snapshot: ControlState | None
    """The newest; where the bus has a record, the newest of this life of the bus."""

    @property
    def bus_system(self) -> str | None:
        """The id of the system of the bus."""
        return self.record.id if self.record else None

    @property
    def store_system(self) -> str | None:
        """The id of the system of the store."""
        return self.store_record.id if self.store_record else None

    @property
    def empty(self) -> bool:
        """Whether the bus holds no control state."""
        return not any(bucket.entries for bucket in self.buckets.values())

    @property
    def used(self) -> bool:
        """Whether the bus has ever held control state, as far as its server knows."""
        return any(bucket.revision for bucket in self.buckets.values())

    @property
    def problem(self) -> str | None:
        """What is lost, as a sentence; None: nothing is known to be."""
        lost = losses(self.snapshot if self.record else None, self.buckets)
        if lost:
            return f"control state is damaged: {'; '.join(lost)}{self._saved}"
        known = self.store_record is not None or self.empty
        if self.record is not None or not known or not (self.versions or self._snapshot_holds):
            return None
        system = f" of {self.store_record.id}" if self.store_record else ""
        bus = "is empty" if self.empty else "does not say which system it belongs to"
        store = f"the store has {plural(self.versions, 'version')}{system}"
        return f"control state is lost: {store}, and the bus {bus}{self._saved}"

    @property
    def state(self) -> ControlState:
        """What can be read of the bus, as a document."""
        record = self.record or self.store_record
        return ControlState(
            format=record.format if record else 0,
            llmos=llmos_version(),
            system=record.id if record else "",
            bus=self.record.bus if self.record else "",
            taken_at=self.examined_at,
            buckets={name: bucket_state(bucket.entries, bucket.revision) for name, bucket in self.buckets.items()},
        )

    @property
    def _snapshot_holds(self) -> bool:
        return self.snapshot is not None and any(bucket.records for bucket in self.snapshot.buckets.values())

    @property
    def _saved(self) -> str:
        if self.snapshot is None:
            return "; there is no snapshot"
        return f"; the snapshot of {self.snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC has {summary(self.snapshot)}"


async def examine(bus: NatsBus, store: ArtifactStore, now: datetime) -> Findings:
    """Look at a bus, as its owner, and at its store. All buckets have been made."""
    record = await bus_record(bus)
    buckets = {name: await bus.kv(name).whole() for name in CONTROL_BUCKETS}
    manifests = {(kind, name, number) for kind in Kind for name, number in await store.manifests(kind)}
    own = {(catalogue.kind, entry.key) for catalogue in CATALOGUES for entry in buckets[catalogue.bucket].entries}
    return Findings(
        record=record,
        store_record=await store_record(store),
        buckets=buckets,
        versions=len(manifests),
        own_versions=sum((kind, name) in own for kind, name, _ in manifests),
        examined_at=now,
        snapshot=await Snapshots(store).newest(record.bus if record else None),
    )
