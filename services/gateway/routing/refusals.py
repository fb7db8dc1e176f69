"""Which replica refused whom a moment ago: it would again, and asking costs it more than refusing is worth. Pure.

A full queue frees a place every now and then, and a client that was refused is told to come back in seconds. So under
overload most requests can be refused here, without taking time from the replica's streams.
"""

from collections import OrderedDict
from dataclasses import dataclass

from shared.errors import Overloaded

REMEMBER_S = 0.25
"""For how long a refusal stands at most; much less than an answer takes, so the queue behind it does not run dry."""
MOST = 1024
"""Refusals kept; the oldest go first."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: Overloaded
    until: float
    tokens: int


class Refusals:
    """By replica and tenant, for others may have room where one has not."""

    def __init__(self) -> None:
        self._newest: OrderedDict[tuple[str, str], _Refusal] = OrderedDict()

    def remember(self, replica_id: str, tenant: str, error: Overloaded, *, tokens: int, now: float) -> None:
        """A replica refused a request of about so many prompt tokens; it may have said to come back very soon."""
        until = now + min(REMEMBER_S, REMEMBER_S if error.retry_after is None else error.retry_after)
        self._newest[replica_id, tenant] = _Refusal(error, until, tokens)
        self._newest.move_to_end((replica_id, tenant))
        while len(self._newest) > MOST:
            self._newest.popitem(last=False)

    def standing(self, replica_id: str, tenant: str, *, tokens: int, now: float) -> Overloaded | None:
        """The refusal that a request would meet; None where it is as well to ask: a smaller one may find room."""
        refusal = self._newest.get((replica_id, tenant))
        if refusal is None or now >= refusal.until or tokens < refusal.tokens:
            return None
        return refusal.error
