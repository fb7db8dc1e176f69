"""How many connections there may be, in all and from one address.

A connection costs the server a file descriptor and some memory, and its client next to nothing. So each
holds a place.
"""

import ipaddress
import time
from collections import Counter
from typing import Protocol

import structlog

from services.gateway.limits.allowance import Allowance
from services.gateway.limits.networks import Networks
from shared.errors import LlmosError, Overloaded, Unavailable

_log = structlog.get_logger("llmos.gateway")

LINGERING = 128
"""Clients without a place that are given time to read why, at once; further ones may see a reset."""


class Idle(Protocol):
    """A connection without a request."""

    def close_idle(self) -> None:
        """End it now: a proxy or a pool takes another one."""


class Places:
    """The connections of one server.

    Args:
        total: Connections at once. When they are all taken, the one that has been idle for longest gives its place.
        per_address: Of them, from one address (IPv6: from one /64, which is what one customer has).
        shared: Networks of proxies, behind which many clients have one address: only `total` holds for them.
    """

    def __init__(self, total: int, per_address: int, shared: Networks) -> None:
        self._total = total
        self._per_address = per_address
        self._shared = shared
        self._held: Counter[str] = Counter()
        self._idle: dict[Idle, None] = {}
        """The one that has been idle for longest comes first."""
        self.open = 0
        """Connections that have a place."""
        self.refused: Counter[str] = Counter()
        """Connections that got none, by the code of the error."""
        self.lingering = 0
        """Of those, the ones that have not ended yet."""
        self.gave_up = 0
        """Connections that were dropped since their client left a response unread."""
        self._allowance = Allowance()

    def take(self, host: str) -> str:
        """A place for a client at `host`; returns what `leave` takes.

        Raises:
            Overloaded: There are too many of this address.
            Unavailable: There are too many in all, and none is idle.
        """
        try:
            return self._take(host)
        except LlmosError as error:
            self.refused[error.code] += 1
            self._record("connection.refused", problem=error.message)
            raise

    def leave(self, group: str) -> None:
        """A connection has ended."""
        self.open -= 1
        self._held[group] -= 1
        if not self._held[group]:
            del self._held[group]

    def dropped(self, unsent: int) -> None:
        """A client left `unsent` bytes of its response unread for too long."""
        self.gave_up += 1
        self._record("connection.dropped", reason="the client does not read its response", unsent_bytes=unsent)

    def idle(self, connection: Idle) -> None:
        """A connection has no request now."""
        self._idle[connection] = None

    def busy(self, connection: Idle) -> None:
        """A connection has a request, or has ended."""
        self._idle.pop(connection, None)

    def _record(self, event: str, **fields: object) -> None:
        passed_over = self._allowance.take(time.monotonic())
        if passed_over is not None:
            _log.warning(event, **fields, open=self.open, more_before=passed_over)

    def _take(self, host: str) -> str:
        group = _group(host)
        if self._held[group] >= self._per_address and host not in self._shared:
            raise Overloaded(
                f"there are {self._per_address} connections from {group} already; close some, or have the operator"
                " raise LLMOS_GATEWAY_MAX_CONNECTIONS_PER_ADDRESS",
                retry_after=1.0,
            )
        if self.open >= self._total:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                raise Unavailable(
                    f"the gateway has {self._total} connections, all in use; try again, or have the operator raise"
                    " LLMOS_GATEWAY_MAX_CONNECTIONS",
                    retry_after=1.0,
                )
            self.busy(oldest)
            oldest.close_idle()
        self.open += 1
        self._held[group] += 1
        return group


def _group(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
