"""The catalogue of a kind in KV: one record per name, changed by compare-and-set."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from shared.audit.trail import Change as RecordChange
from shared.audit.trail import Trail
from shared.bus.port import Bus
from shared.contracts.events import CHAINS
from shared.contracts.registry import CatalogueRecord
from shared.errors import Conflict

_TRIES = 100
"""A try fails only when another process's change succeeded."""


class Change(NamedTuple):
    """A record before and after."""

    before: CatalogueRecord
    after: CatalogueRecord


class Deed(NamedTuple):
    """What a change is called in its event."""

    kind: str
    name: str
    detail: Mapping[str, str] = {}


class Records:
    """Reads and changes records. Keeps nothing: the bucket is the truth, and other registries write to it too.

    Args:
        bus: Has the bucket.
        bucket: Its name.
        trail: Takes the events; None: one of its own.
    """

    def __init__(self, bus: Bus, bucket: str, trail: Trail | None = None) -> None:
        self._name = bucket
        self._bucket = bus.kv(bucket)
        self._trail = trail or Trail(bus, CHAINS["registry"], actor="registry")

    async def all(self) -> dict[str, CatalogueRecord]:
        """All records by name, also those without versions."""
        return {entry.key: CatalogueRecord.decode(entry.value) for entry in await self._bucket.entries()}

    async def get(self, name: str) -> CatalogueRecord | None:
        """One record, or None."""
        entry = await self._bucket.get(name)
        return CatalogueRecord.decode(entry.value) if entry else None

    async def create(self, record: CatalogueRecord) -> bool:
        """Write a record that was found in the store, unless the name has one; returns whether it was written."""
        deed = Deed("catalogue.rebuilt", record.name, {"versions": str(len(record.versions))})
        try:
            async with self._recorded(deed, None, record):
                await self._bucket.create(record.name, record.encode())
        except Conflict:
            return False
        return True

    async def change(
        self, name: str, rule: Callable[[CatalogueRecord], CatalogueRecord], deed: Callable[[Change], Deed]
    ) -> Change:
        """Apply a pure `rule` to a record (to an empty one when there is none) and write what it returns.

        Its event, which `deed` names, is stored first. The rule is applied again when another process was faster.
        Nothing is written when the rule changes nothing. Errors of the rule pass through.
        """
        for _ in range(_TRIES):
            entry = await self._bucket.get(name)
            before = CatalogueRecord.decode(entry.value) if entry else CatalogueRecord(name=name)
            after = rule(before)
            if after == before:
                return Change(before, after)
            try:
                async with self._recorded(deed(Change(before, after)), entry.value if entry else None, after):
                    if entry:
                        await self._bucket.update(name, after.encode(), entry.revision)
                    else:
                        await self._bucket.create(name, after.encode())
            except Conflict:
                continue
            return Change(before, after)
        raise Conflict(f"{name!r} is being changed by others all the time; try again")

    def _recorded(
        self, deed: Deed, before: bytes | None, after: CatalogueRecord
    ) -> AbstractAsyncContextManager[object]:
        change = RecordChange(f"{self._name}/{after.name}", before, after.encode())
        return self._trail.change(deed.kind, deed.name, change, **deed.detail)
