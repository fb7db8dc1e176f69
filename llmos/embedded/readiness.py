"""Whether the services of an embedded system are ready. No API key is needed: a start must not depend on one."""

from collections.abc import Sequence

import httpx

from shared.bus import rpc
from shared.bus.port import Bus
from shared.contracts.base import Empty
from shared.contracts.monitor import GET_HEALTH, InstanceHealth
from shared.errors import LlmosError

_CALL_S = 5.0


class Readiness:
    """Asks the gateway over HTTP, and the monitor for the heartbeats of all others.

    Args:
        bus: As a user that may ask the monitor.
        url: Of the gateway.
        services: That must be ready.
    """

    def __init__(self, bus: Bus, url: str, services: Sequence[str]) -> None:
        self._bus = bus
        self._url = url
        self._services = services

    async def missing(self) -> str:
        """Which service is not ready yet, with its reason; empty when all are."""
        try:
            report = await rpc.call(self._bus, GET_HEALTH, Empty(), timeout=_CALL_S)
        except LlmosError as error:
            return f"monitor: {error.message}"
        return reasons(report.instances, self._services) or await self._gateway()

    async def _gateway(self) -> str:
        try:
            async with httpx.AsyncClient(timeout=_CALL_S, trust_env=False) as client:
                response = await client.get(f"{self._url}/readyz")
        except httpx.TransportError as error:
            return f"gateway: {error or 'no connection'}"
        return "" if response.status_code == httpx.codes.OK else f"gateway: {response.text[:200]}"


def reasons(instances: Sequence[InstanceHealth], services: Sequence[str]) -> str:
    """Why `services` are not ready by their heartbeats; empty when they are."""
    seen = {one.heartbeat.service: [*one.heartbeat.reasons] if one.up else ["down"] for one in instances}
    return "; ".join(
        f"{service}: {', '.join(seen.get(service, ['no heartbeat yet']))}"
        for service in services
        if seen.get(service, ["missing"])
    )
