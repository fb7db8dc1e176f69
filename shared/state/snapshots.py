"""Snapshots of control state in the artifact store, beside the models: they survive the loss of the bus.

`snapshots/<time>-<bus>-<digest>.json.gz` is a `ControlState` in JSON. The name has the time in UTC, the life of the
bus, and the first digits of the SHA-256 of what the buckets hold: nothing is written that the newest one has already.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import structlog
from pydantic import ValidationError

from shared.contracts.state import ControlState, Stamp, check_format
from shared.errors import CorruptFile, NotFound
from shared.storage.layout import SNAPSHOTS
from shared.storage.port import ArtifactStore

_log = structlog.get_logger("llmos.state")
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(?P<time>\d{8}T\d{6}Z)-(?P<bus>[0-9a-f]{8})-(?P<digest>[0-9a-f]{12})")


@dataclass(frozen=True, slots=True, order=True)
class Snapshot:
    """A snapshot by its name; ordered by time."""

    taken_at: datetime
    bus: str
    """The digits of the id of the bus's life."""
    digest: str

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """From `snapshots/<name>.json.gz` or `<name>`; None for what is no snapshot."""
        match = _NAME.fullmatch(name.removeprefix(f"{SNAPSHOTS}/").removesuffix(".json.gz"))
        if match is None:
            return None
        return cls(datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC), match["bus"], match["digest"])

    @classmethod
    def of(cls, state: ControlState) -> Self:
        """That of a document."""
        content = state.model_copy(update={"llmos": "", "taken_at": datetime.min.replace(tzinfo=UTC)})
        digest = hashlib.sha256(content.encode()).hexdigest()
        return cls(state.taken_at.astimezone(UTC).replace(microsecond=0), digits(state.bus), digest[:12])

    def __str__(self) -> str:
        return f"{self.taken_at.strftime(_TIME)}-{self.bus}-{self.digest}"

    @property
    def document(self) -> str:
        """Its name in the store."""
        return f"{SNAPSHOTS}/{self}.json.gz"


def digits(bus: str) -> str:
    """The life of a bus as a snapshot's name has it."""
    return bus.removeprefix("bus-") or "0" * 8


class Snapshots:
    """Those in a store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def all(self) -> list[Snapshot]:
        """All, newest first."""
        names = await self._store.snapshots()
        return sorted((one for name in names if (one := Snapshot.parse(name)) is not None), reverse=True)

    async def read(self, snapshot: Snapshot) -> ControlState:
        """Its document; raises `NotFound`, `CorruptFile`, or `UnsupportedFormat` when a newer LLMOS wrote it."""
        data = await self._store.get_document(snapshot.document)
        if data is None:
            raise NotFound(
                f"there is no snapshot {snapshot} in the store; 'llmos restore --list' shows those there are"
            )
        try:
            text = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise CorruptFile(f"the snapshot {snapshot} is damaged: {error}") from error
        return parse_state(text, f"the snapshot {snapshot}")

    async def newest(self, bus: str | None = None) -> ControlState | None:
        """The newest that can be read; with `bus`, of that life of the bus."""
        for snapshot in await self.all():
            if bus is None or snapshot.bus == digits(bus):
                try:
                    return await self.read(snapshot)
                except (
                    CorruptFile,
                    NotFound,
                ) as error:  # removed meanwhile, or damaged: an older one is better than none
                    _log.warning("snapshot.unreadable", snapshot=str(snapshot), error=error.message)
        return None

    async def write(self, state: ControlState) -> Snapshot | None:
        """Write a snapshot; None, and nothing is written, if the newest one of this bus holds the same."""
        new = Snapshot.of(state)
        same_bus = [one for one in await self.all() if one.bus == new.bus]
        if same_bus and same_bus[0].digest == new.digest:
            return None
        await self._store.put_document(new.document, gzip.compress(state.encode(), mtime=0))
        return new

    async def remove_superseded(self, now: datetime, *, number: int, days: int) -> list[Snapshot]:
        """Remove what `superseded` names; returns it."""
        gone = superseded(await self.all(), now, number=number, days=days)
        for snapshot in gone:
            await self._store.delete_document(snapshot.document)
        return gone


def superseded(snapshots: Iterable[Snapshot], now: datetime, *, number: int, days: int) -> list[Snapshot]:
    """Those that are neither among the newest `number` nor the last of one of the last `days` days."""
    newest_first = sorted(snapshots, reverse=True)
    oldest = now - timedelta(days=days)
    needed = set(newest_first[:number])
    seen = set()
    for snapshot in newest_first:
        if snapshot.taken_at >= oldest and snapshot.taken_at.date() not in seen:
            seen.add(snapshot.taken_at.date())
            needed.add(snapshot)
    return [snapshot for snapshot in newest_first if snapshot not in needed]


def parse_state(data: bytes, what: str) -> ControlState:
    """A document; raises `CorruptFile`, or `UnsupportedFormat` when a newer LLMOS wrote it."""
    try:
        check_format(Stamp.decode(data), what)
        return ControlState.decode(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CorruptFile(f"{what} can't be read: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
