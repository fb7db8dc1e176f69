"""Recent refusals by replica and tenant: the replica would refuse again, and each refusal costs it time. Pure.

A full queue frees a place from time to time, and `Retry-After` sends a refused client away for seconds. So under
overload the gateway can refuse most requests itself, without taking time from the replica's streams.
"""

from collections import OrderedDict
from dataclasses import dataclass

from shared.errors import Overloaded

REMEMBER_S = 0.25
"""How long a refusal holds at most: much less than a generation takes, so the replica's queue does not run dry."""
MOST = 1024
"""Refusals kept; the oldest go first."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: Overloaded
    until: float
    tokens: int


class Refusals:
    """Recent refusals by replica and tenant: a replica that refuses one tenant may accept another."""

    def __init__(self) -> None:
        self._newest: OrderedDict[tuple[str, str], _Refusal] = OrderedDict()

    def remember(self, replica_id: str, tenant: str, error: Overloaded, *, tokens: int, now: float) -> None:
        """A replica refused a request of about `tokens` prompt tokens. It holds for `retry_after` s at most."""
        until = now + min(REMEMBER_S, REMEMBER_S if error.retry_after is None else error.retry_after)
        self._newest[replica_id, tenant] = _Refusal(error, until, tokens)
        self._newest.move_to_end((replica_id, tenant))
        while len(self._newest) > MOST:
            self._newest.popitem(last=False)

    def standing(self, replica_id: str, tenant: str, *, tokens: int, now: float) -> Overloaded | None:
        """The refusal that holds for a request, or None: a smaller request than the refused one may be accepted."""
        refusal = self._newest.get((replica_id, tenant))
        if refusal is None or now >= refusal.until or tokens < refusal.tokens:
            return None
        return refusal.error
