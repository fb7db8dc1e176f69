"""The catalogue in KV: one record per model, changed by compare-and-set."""

from collections.abc import Callable
from typing import NamedTuple

from shared.bus.port import Bus
from shared.contracts.registry import MODELS_BUCKET, ModelRecord
from shared.errors import Conflict

_TRIES = 100
"""A try fails only when another process's change succeeded."""


class Change(NamedTuple):
    """A record before and after."""

    before: ModelRecord
    after: ModelRecord


class ModelRecords:
    """Reads and changes records. Keeps nothing: the bucket is the truth, and other registries write to it too."""

    def __init__(self, bus: Bus) -> None:
        self._bucket = bus.kv(MODELS_BUCKET)

    async def all(self) -> dict[str, ModelRecord]:
        """All records by model, also those without versions."""
        return {entry.key: ModelRecord.decode(entry.value) for entry in await self._bucket.entries()}

    async def get(self, name: str) -> ModelRecord | None:
        """One record, or None."""
        entry = await self._bucket.get(name)
        return ModelRecord.decode(entry.value) if entry else None

    async def create(self, record: ModelRecord) -> bool:
        """Write a record unless the model has one; returns whether it was written."""
        try:
            await self._bucket.create(record.name, record.encode())
        except Conflict:
            return False
        return True

    async def change(self, name: str, rule: Callable[[ModelRecord], ModelRecord]) -> Change:
        """Apply a pure `rule` to a record (to an empty one when there is none) and write what it returns.

        The rule is applied again when another process was faster. Nothing is written when the rule changes nothing.
        Errors of the rule pass through.
        """
        for _ in range(_TRIES):
            entry = await self._bucket.get(name)
            before = ModelRecord.decode(entry.value) if entry else ModelRecord(name=name)
            after = rule(before)
            if after == before:
                return Change(before, after)
            try:
                if entry:
                    await self._bucket.update(name, after.encode(), entry.revision)
                else:
                    await self._bucket.create(name, after.encode())
            except Conflict:
                continue
            return Change(before, after)
        raise Conflict(f"model {name!r} is being changed by others all the time; try again")
