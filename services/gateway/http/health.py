"""`/healthz`, `/readyz` and `/metrics`."""

from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.metrics import Metrics
from services.gateway.openai.chat import json_answer


class HealthApi:
    """How the gateway is.

    Args:
        reasons: Why it can't serve now; empty when it can.
        metrics: What `/metrics` shows.
    """

    def __init__(self, reasons: Callable[[], tuple[str, ...]], metrics: Metrics) -> None:
        self._reasons = reasons
        self._metrics = metrics

    async def alive(self, _request: Request) -> Response:
        """The process lives."""
        return json_answer({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Whether requests can be served, with the reasons if not: 200 or 503."""
        reasons = self._reasons()
        content = {"ready": not reasons, "reasons": list(reasons)}
        return Response(
            orjson.dumps(content),
            status_code=503 if reasons else 200,
            headers={"retry-after": "1"} if reasons else None,
            media_type="application/json",
        )

    async def metrics(self, _request: Request) -> Response:
        """Prometheus' text format."""
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
