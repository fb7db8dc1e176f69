"""Calls registry, scheduler and monitor over the bus."""

from shared.bus import rpc
from shared.bus.port import Bus
from shared.contracts.base import Endpoint, Request, Response
from shared.deadlines import ADMIN_CALL_S
from shared.errors import NoResponders, Unavailable

RETRY_S = 2.0


class ControlPlane:
    """The services that own the state.

    Args:
        bus: To them.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def call(
        self, endpoint: Endpoint[Request, Response], request: Request, *, timeout: float = ADMIN_CALL_S
    ) -> Response:
        """Call the service that owns `endpoint`; raises its error, or `Unavailable` with the service's name."""
        try:
            return await rpc.call(self._bus, endpoint, request, timeout=timeout)
        except NoResponders as error:
            service = endpoint.subject.split(".")[2]
            raise Unavailable(
                f"the {service} service is not running; models that are deployed go on answering",
                retry_after=RETRY_S,
            ) from error
