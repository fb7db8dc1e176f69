"""The gateway's operations as one ASGI application."""

from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp

from services.gateway.http.authentication import Authentication
from services.gateway.http.middleware import RequestMiddleware
from services.gateway.http.openapi import DOCUMENT_PATH, openapi
from services.gateway.http.operation import Operation
from services.gateway.keys import KeyStore
from services.gateway.metrics import Metrics


def make_app(operations: Sequence[Operation], *, keys: KeyStore | None, metrics: Metrics) -> ASGIApp:
    """The application.

    Args:
        operations: All routes but the one of the OpenAPI document, which describes them.
        keys: The API keys; None admits every request.
        metrics: Counts every request.
    """

    async def show_document(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    served = [*operations, Operation("GET", DOCUMENT_PATH, show_document, "This document", "admin")]
    document = orjson.dumps(openapi(served))
    router = Router([operation.route() for operation in served], redirect_slashes=False)
    return RequestMiddleware(Authentication(router, keys), metrics)
