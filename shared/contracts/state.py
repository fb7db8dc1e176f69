"""Control state as a document, and which system a bus or a store belongs to (KV `LLMOS_SYSTEM`, key `system`).

`FORMAT` is the number of the form in which LLMOS keeps everything that lasts: the home, the buckets, the store's own
records, snapshots and backups. What has no number was written before there were numbers: format 0.
"""

from datetime import datetime

from pydantic import Field, JsonValue

from shared.contracts.base import Contract
from shared.errors import UnsupportedFormat

FORMAT = 1
SYSTEM_BUCKET = "LLMOS_SYSTEM"
SYSTEM_KEY = "system"
_EXAMPLE_TIME = datetime.fromisoformat("2026-11-24T12:00:00+00:00")


class Stamp(Contract):
    """The first fields of everything that lasts."""

    format: int = Field(default=0, ge=0)
    llmos: str = ""
    """The version of LLMOS that wrote it."""


class SystemRecord(Stamp):
    """Which system a home, a bus or a store belongs to."""

    id: str
    """Equal in all three."""
    bus: str = ""
    """Of a bus: made anew whenever its buckets begin anew, so that revisions of two lives are never compared."""
    created_at: datetime


class StateRecord(Contract):
    """A record of a bucket."""

    key: str
    revision: int
    """Goes up with each change of the bucket."""
    value: JsonValue


class BucketState(Contract):
    """What a bucket held."""

    revision: int = 0
    """Of its last change, deletions included."""
    records: tuple[StateRecord, ...] = ()
    """By key."""


class ControlState(Stamp):
    """All control state at one moment: no bucket changed while it was read."""

    system: str = ""
    """Its id; empty before format 1."""
    bus: str = ""
    taken_at: datetime
    buckets: dict[str, BucketState]

    def records(self, bucket: str) -> tuple[StateRecord, ...]:
        """Those of one bucket."""
        found = self.buckets.get(bucket)
        return found.records if found is not None else ()


def check_format(stamp: Stamp, what: str) -> None:
    """Raise `UnsupportedFormat` if a newer LLMOS wrote `what`."""
    if stamp.format > FORMAT:
        raise UnsupportedFormat(
            f"{what} has format {stamp.format}, written by LLMOS {stamp.llmos or 'of a later version'}, and this"
            f" LLMOS reads formats up to {FORMAT}: install that version, or restore a backup made before the upgrade"
        )


Stamp.EXAMPLE = Stamp(format=1, llmos="0.1.0")
SystemRecord.EXAMPLE = SystemRecord(
    format=1, llmos="0.1.0", id="system-3f9c21ab", bus="bus-77b11c1e", created_at=_EXAMPLE_TIME
)
StateRecord.EXAMPLE = StateRecord(key="smollm2", revision=2, value={"name": "smollm2", "next_version": 2})
BucketState.EXAMPLE = BucketState(revision=2, records=(StateRecord.EXAMPLE,))
ControlState.EXAMPLE = ControlState(
    format=1,
    llmos="0.1.0",
    system="system-3f9c21ab",
    bus="bus-77b11c1e",
    taken_at=_EXAMPLE_TIME,
    buckets={"LLMOS_MODELS": BucketState.EXAMPLE},
)
