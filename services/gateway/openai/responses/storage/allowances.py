"""What each tenant may store, and what gives way when it stores more: the oldest."""

import time
from collections.abc import Awaitable, Callable, Iterable

from services.gateway.limits.stored import StoreLimits
from shared.contracts.response import StoredRecord
from shared.errors import PayloadTooLarge

_LIST_AGAIN_S = 60.0
"""Other gateways store for the tenant too: its records are listed again after this long."""
_FORGET_S = 600.0
"""A tenant that stored nothing for this long is listed anew the next time."""


class _Known:
    """What is known of a tenant's records: oldest first."""

    def __init__(self, listed_at: float, records: Iterable[StoredRecord]) -> None:
        self.listed_at = listed_at
        self.bytes = 0
        self._records: dict[str, StoredRecord] = {}
        for record in sorted(records, key=lambda each: each.updated_at):
            self.note(record)

    def __len__(self) -> int:
        return len(self._records)

    def note(self, record: StoredRecord) -> None:
        """A record was written."""
        self.forget(record.id)
        self._records[record.id] = record
        self.bytes += record.bytes

    def forget(self, stored_id: str) -> None:
        """A record is gone, or gives way to a newer one of the same id."""
        if (record := self._records.pop(stored_id, None)) is not None:
            self.bytes -= record.bytes

    def size_of(self, stored_id: str) -> int | None:
        """Bytes of a record; None if it is not known."""
        record = self._records.get(stored_id)
        return None if record is None else record.bytes

    def oldest(self, but: str) -> str | None:
        """The one that gives way first: none that is still generated."""
        return next((each for each, record in self._records.items() if each != but and record.status.is_final), None)


class Allowances:
    """Makes room for what tenants store.

    Args:
        list_records: The records of a tenant.
        limits: Of each tenant.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        list_records: Callable[[str], Awaitable[list[StoredRecord]]],
        limits: StoreLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._list = list_records
        self._limits = limits
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def make_space(
        self, tenant: str, stored_id: str, size: int, evict: Callable[[str, str], Awaitable[None]]
    ) -> None:
        """Have the oldest records evicted until one of `size` bytes, the new or old `stored_id`, fits.

        Raises:
            PayloadTooLarge: It alone is larger than all that the tenant may store.
        """
        if size > self._limits.bytes:
            raise PayloadTooLarge(
                f"the response has {size} bytes with its input; a key may store {self._limits.bytes}"
                " (LLMOS_GATEWAY_STORED_BYTES); send store=false",
                param="store",
            )
        known = await self._records(tenant)
        replaced = known.size_of(stored_id)
        more, size = (1, size) if replaced is None else (0, size - replaced)
        while len(known) + more > self._limits.count or known.bytes + size > self._limits.bytes:
            if (oldest := known.oldest(but=stored_id)) is None:
                return  # all that is left is generated now, or is this one
            known.forget(oldest)
            await evict(tenant, oldest)

    def note(self, tenant: str, record: StoredRecord) -> None:
        """A record was written."""
        if tenant in self._known:
            self._known[tenant].note(record)

    def forget(self, tenant: str, stored_id: str) -> None:
        """A record was deleted."""
        if tenant in self._known:
            self._known[tenant].forget(stored_id)

    async def _records(self, tenant: str) -> _Known:
        now = self._clock()
        known = self._known.get(tenant)
        if known is None or now - known.listed_at > _LIST_AGAIN_S:
            for other in [each for each, seen in self._known.items() if now - seen.listed_at > _FORGET_S]:
                del self._known[other]
            known = self._known[tenant] = _Known(now, await self._list(tenant))
        return known
