"""Changes of records that a process holds as local copies: the event first, then the compare-and-set."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.audit.trail import Change, Trail
from shared.bus.records import Records
from shared.contracts.base import Contract
from shared.errors import Conflict

Record = TypeVar("Record", bound=Contract)


@dataclass(frozen=True, slots=True)
class RecordChanges(Generic[Record]):
    """Writes records of one bucket.

    bucket: its name
    records: the local copy
    trail: takes the events
    """

    bucket: str
    records: Records[Record]
    trail: Trail

    async def write(
        self,
        key: str,
        before: Record | None,
        after: Record | None,
        kind: str,
        *,
        by: str | None = None,
        **detail: str,
    ) -> None:
        """Put `after` in place of `before` (None: there is none, or shall be none), as an event of `kind`.

        Raises:
            Conflict: The record is no longer `before`.
            NotRecorded: The event can't be stored; nothing was changed.
            StorageFull: There is no room for changes.
        """
        self._require(key, before)
        change = Change(f"{self.bucket}/{key}", self.records.stored(key), after.encode() if after else None)
        async with self.trail.change(kind, key, change, by=by, **detail):
            self._require(key, before)
            if after is None:
                await self.records.delete(key)
            else:
                await self.records.write(key, after)

    def _require(self, key: str, before: Record | None) -> None:
        if self.records.get(key) != before:
            raise Conflict(f"{key!r} in {self.bucket} was changed meanwhile: read it again")
