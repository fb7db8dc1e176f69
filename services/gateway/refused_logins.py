"""Refused logins as events: sums, a few a minute however many there are, in a stream of their own."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shared.audit.trail import Trail
from shared.errors import LlmosError
from shared.service.background import background

EVERY_S = 10.0
"""Seconds between two sums."""
NAMED = 8
"""Addresses that a sum names: those with the most refusals."""
_COUNTED = 1024
"""Addresses that are counted one by one between two sums; those of further ones are counted together."""
FURTHER = "further addresses"


@dataclass(slots=True)
class Refusals:
    """What was refused since the last sum. Pure."""

    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By code and key: unknown keys have none."""
    addresses: Counter[str] = field(default_factory=Counter)

    def add(self, error: LlmosError, key: str, address: str) -> None:
        """Count one."""
        self.reasons[error.code, key] += 1
        known = address in self.addresses or len(self.addresses) < _COUNTED
        self.addresses[address if known else FURTHER] += 1

    def detail(self) -> dict[str, str]:
        """What an event says of them."""
        reasons = (
            f"{code}{f' of {key}' if key else ''}: {count}" for (code, key), count in self.reasons.most_common(NAMED)
        )
        named = self.addresses.most_common(NAMED)
        rest = self.addresses.total() - sum(count for _, count in named)
        addresses = [f"{address or 'unknown'}: {count}" for address, count in named]
        return {
            "count": str(self.reasons.total()),
            "reasons": ", ".join(reasons),
            "addresses": ", ".join([*addresses, f"others: {rest}"] if rest else addresses),
        }


class RefusedLogins:
    """Counts them, and records a sum every few seconds.

    Args:
        trail: Writes the chain `logins`.
        every: Seconds between two sums.
    """

    def __init__(self, trail: Trail, every: float = EVERY_S) -> None:
        self._trail = trail
        self._every = every
        self._refusals = Refusals()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["RefusedLogins"]:
        """Record sums while inside, and the last one on the way out."""
        async with background(self._run(), "record refused logins"):
            yield self
        await self._record()

    def note(self, error: LlmosError, key: str, address: str) -> None:
        """A request was refused for its key: the id of a known one, or ''."""
        self._refusals.add(error, key, address)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._record()

    async def _record(self) -> None:
        refusals, self._refusals = self._refusals, Refusals()
        if refusals.reasons:
            await self._trail.note("login.refused", "API", by="", **refusals.detail())
