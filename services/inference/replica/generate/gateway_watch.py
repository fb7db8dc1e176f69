"""Which gateways went silent: their requests would be generated for nobody."""

import math
from collections.abc import Iterable


class GatewayWatch:
    """When each gateway was last heard. Pure: the caller passes the time, in seconds on a monotonic clock.

    Only gateways that were heard once are judged: one that was never heard may have another name.

    Args:
        ttl: Seconds of silence after which a gateway is gone.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._heard: dict[str, float] = {}

    def heard(self, gateway: str, now: float) -> None:
        """A heartbeat came."""
        self._heard[gateway] = now

    def left(self, gateway: str) -> None:
        """It said that it stops: it waits for nothing any more."""
        self._heard[gateway] = -math.inf

    def deaf(self, now: float) -> None:
        """We could not hear anyone (the bus was down): silence up to now says nothing."""
        self._heard = dict.fromkeys(self._heard, now)

    def gone(self, now: float) -> list[str]:
        """Gateways that went silent."""
        return [gateway for gateway, heard in self._heard.items() if now - heard > self._ttl]

    def forget(self, gateways: Iterable[str]) -> None:
        """Their requests are dealt with; a gateway that comes back is heard anew."""
        for gateway in gateways:
            self._heard.pop(gateway, None)
