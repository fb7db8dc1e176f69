"""`/healthz` (vLLM's name for it is `/health`), `/readyz` and `/metrics`."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.operation import Operation
from services.gateway.http.responses import json_response
from services.gateway.metrics import Metrics
from shared.disk import Disk


def routes(reasons: Callable[[], tuple[str, ...]], disk: Disk, metrics: Metrics) -> list[Operation]:
    """The operations on the gateway's own health.

    Args:
        reasons: Why the gateway can't serve now; empty when it can.
        disk: Of the system; answers do not need it.
        metrics: What `/metrics` shows.
    """
    health = HealthApi(reasons, disk, metrics)
    return [
        Operation("GET", "/healthz", health.alive, "Whether the process lives", "health"),
        Operation("GET", "/health", health.alive, "The same as /healthz, under vLLM's name", "health"),
        Operation("GET", "/readyz", health.ready, "Whether it can serve", "health"),
        Operation("GET", "/metrics", health.metrics, "Prometheus metrics", "health", result={"text/plain": {}}),
    ]


class HealthApi:
    """The state of the gateway; for the arguments see `routes`."""

    def __init__(self, reasons: Callable[[], tuple[str, ...]], disk: Disk, metrics: Metrics) -> None:
        self._reasons = reasons
        self._disk = disk
        self._metrics = metrics

    async def alive(self, _request: Request) -> Response:
        """The process lives."""
        return json_response({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Whether requests can be served, with the reasons if not: 200 or 503. A full disk stops no answer."""
        reasons = self._reasons()
        content: dict[str, object] = {"ready": not reasons, "reasons": list(reasons)}
        if (state := self._disk.look()) is not None:  # without the folder: nobody's key was checked
            content["disk"] = {"free": state.free, "total": state.total, "stopped": state.stopped}
        if reasons:
            return json_response(content, status=503, headers={"retry-after": "1"})
        return json_response(content)

    async def metrics(self, _request: Request) -> Response:
        """Prometheus' text format."""
        return Response(await self._metrics.scrape(), media_type="text/plain; version=0.0.4; charset=utf-8")
