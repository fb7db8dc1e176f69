"""Detects lost gateways, whose requests have no reader any more. Pure."""

import math
from collections.abc import Iterable


class GatewayWatch:
    """The time of each gateway's last heartbeat, in seconds on a monotonic clock.

    A gateway that never sent a heartbeat is not lost: it may send them under another name.

    Args:
        ttl: Seconds without a heartbeat after which a gateway is lost.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._heard: dict[str, float] = {}

    def heartbeat(self, gateway: str, now: float) -> None:
        """Record a heartbeat."""
        self._heard[gateway] = now

    def left(self, gateway: str) -> None:
        """Record that a gateway leaves: it is lost at once."""
        self._heard[gateway] = -math.inf

    def reset(self, now: float) -> None:
        """Restart all times to live: while the bus is disconnected, no heartbeat arrives."""
        self._heard = dict.fromkeys(self._heard, now)

    def lost(self, now: float) -> list[str]:
        """Gateways without a heartbeat for the time to live."""
        return [gateway for gateway, heard in self._heard.items() if now - heard > self._ttl]

    def forget(self, gateways: Iterable[str]) -> None:
        """Drop gateways whose requests were aborted; a gateway that returns is recorded again."""
        for gateway in gateways:
            self._heard.pop(gateway, None)
