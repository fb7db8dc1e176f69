"""What is stored of responses and conversations: records with contents of any size, in one bucket.

A content is written in parts before the record that names it, so nothing is ever half stored: parts that no record
names expire with the bucket's time to live.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from services.gateway.limits.stored import StoreLimits
from services.gateway.openai.responses.storage.allowances import Allowances
from shared.bus.port import Bus
from shared.contracts.response import PART_BYTES, RESPONSES_BUCKET, ResponseStatus, StoredRecord
from shared.errors import Conflict, LlmosError

_log = structlog.get_logger("llmos.gateway")

ANONYMOUS = "anonymous"
"""The tenant of requests without a key, where the gateway asks for none."""
_READ_AGAIN = 5
"""Times that a content is looked for whose record changes meanwhile."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record, and the revision that a change of it needs."""

    record: StoredRecord
    revision: int


class Store:
    """The responses and conversations of all tenants. Keeps nothing: other gateways write to the bucket too.

    Args:
        bus: Has the bucket.
        limits: What one tenant may store.
        now: The time of day.
    """

    def __init__(
        self, bus: Bus, limits: StoreLimits, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._kv = bus.kv(RESPONSES_BUCKET)
        self._now = now
        self._allowances = Allowances(self._list, limits)

    async def find(self, tenant: str, stored_id: str) -> Stored | None:
        """A record of the tenant's, or None."""
        entry = await self._kv.get(_key(tenant, stored_id))
        return None if entry is None else Stored(StoredRecord.decode(entry.value), entry.revision)

    async def content(self, tenant: str, stored: Stored) -> tuple[dict[str, Any], Stored] | None:
        """A content, and the record that names it now; None if it was deleted meanwhile."""
        for _ in range(_READ_AGAIN):
            parts = await asyncio.gather(*map(self._kv.get, _part_keys(tenant, stored.record)))
            if all(parts):
                content: dict[str, Any] = orjson.loads(b"".join(part.value for part in parts if part is not None))
                return content, stored
            found = await self.find(tenant, stored.record.id)
            if found is None or found.record.content == stored.record.content:
                return None
            stored = found
        raise Conflict(f"{stored.record.id} is changed all the time; try again")

    async def create(
        self,
        tenant: str,
        stored_id: str,
        content: dict[str, Any],
        *,
        status: ResponseStatus = ResponseStatus.COMPLETED,
        events: bool = False,
    ) -> Stored:
        """Store something new; the oldest that the tenant stored gives way, if need be.

        Raises:
            StorageFull: There is no room on the bus.
            PayloadTooLarge: It alone is larger than all that the tenant may store.
        """
        data = orjson.dumps(content)
        await self._allowances.make_space(tenant, stored_id, len(data), self._evict)
        record = self._record(stored_id, data).model_copy(update={"status": status, "events": events})
        await self._write_parts(tenant, record, data)
        revision = await self._kv.create(_key(tenant, stored_id), record.encode())
        self._allowances.note(tenant, record)
        return Stored(record, revision)

    async def replace(
        self,
        tenant: str,
        stored: Stored,
        content: dict[str, Any],
        *,
        status: ResponseStatus = ResponseStatus.COMPLETED,
    ) -> Stored:
        """Replace a content; raises what `create` raises, and `Conflict` if it was changed or deleted meanwhile."""
        data, old = orjson.dumps(content), stored.record
        await self._allowances.make_space(tenant, old.id, len(data), self._evict)
        record = self._record(old.id, data).model_copy(update={"status": status, "events": old.events})
        await self._write_parts(tenant, record, data)
        try:
            revision = await self._kv.update(_key(tenant, old.id), record.encode(), stored.revision)
        except Conflict:
            await self._delete_keys(_part_keys(tenant, record))
            raise
        self._allowances.note(tenant, record)
        await self._delete_keys(_part_keys(tenant, old))
        return Stored(record, revision)

    async def delete(self, tenant: str, record: StoredRecord) -> None:
        """Delete a record, its content and its events."""
        await self._kv.delete(_key(tenant, record.id))
        self._allowances.forget(tenant, record.id)
        keys = _part_keys(tenant, record)
        if record.events:
            keys += [entry.key for entry in await self._kv.entries(f"{_key(tenant, record.id)}.events.*")]
        await self._delete_keys(keys)

    async def put_events(self, tenant: str, response_id: str, number: int, data: bytes) -> None:
        """Keep the next piece of the events of a response."""
        await self._kv.put(f"{_key(tenant, response_id)}.events.{number}", data)

    async def events(self, tenant: str, response_id: str, number: int) -> bytes | None:
        """A piece of the events of a response, if it is there."""
        entry = await self._kv.get(f"{_key(tenant, response_id)}.events.{number}")
        return None if entry is None else entry.value

    async def _list(self, tenant: str) -> list[StoredRecord]:
        """The records of a tenant, without their contents."""
        return [StoredRecord.decode(entry.value) for entry in await self._kv.entries(f"{tenant or ANONYMOUS}.*")]

    def _record(self, stored_id: str, data: bytes) -> StoredRecord:
        """The record of a new content."""
        return StoredRecord(
            id=stored_id,
            content=secrets.token_hex(8),
            parts=max(1, -(-len(data) // PART_BYTES)),
            bytes=len(data),
            updated_at=self._now(),
        )

    async def _write_parts(self, tenant: str, record: StoredRecord, data: bytes) -> None:
        keys = _part_keys(tenant, record)
        parts = (data[at * PART_BYTES : (at + 1) * PART_BYTES] for at in range(len(keys)))
        await asyncio.gather(*map(self._kv.put, keys, parts))

    async def _evict(self, tenant: str, stored_id: str) -> None:
        """Delete what gives way to something newer."""
        found = await self.find(tenant, stored_id)
        if found is not None:
            _log.info(
                "response.evicted",
                key=tenant,
                id=stored_id,
                age_s=round((self._now() - found.record.updated_at).total_seconds()),
            )
            await self.delete(tenant, found.record)

    async def _delete_keys(self, keys: Sequence[str]) -> None:
        """Delete entries that nothing names any more; what cannot be deleted now expires."""
        for result in await asyncio.gather(*map(self._kv.delete, keys), return_exceptions=True):
            if isinstance(result, LlmosError):
                _log.warning("stored_content.not_deleted", problem=result.message)
            elif isinstance(result, BaseException):
                raise result


def _key(tenant: str, stored_id: str) -> str:
    return f"{tenant or ANONYMOUS}.{stored_id}"


def _part_keys(tenant: str, record: StoredRecord) -> list[str]:
    return [f"{_key(tenant, record.id)}.{record.content}.{number}" for number in range(record.parts)]
