"""The gateway's operations as one ASGI application."""

from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from services.gateway.http.authentication import Authentication
from services.gateway.http.cors import allow_origins
from services.gateway.http.middleware import RequestMiddleware
from services.gateway.http.openapi import DOCUMENT_PATH, openapi
from services.gateway.http.operation import Operation
from services.gateway.http.routes import FindRoute, serve_route
from services.gateway.keys import KeyStore
from services.gateway.metrics import Metrics
from services.gateway.refused_logins import RefusedLogins


def make_app(
    operations: Sequence[Operation],
    *,
    keys: KeyStore | None,
    metrics: Metrics,
    refused: RefusedLogins | None = None,
    cors_origins: tuple[str, ...] = (),
    trust_trace_context: bool = False,
) -> ASGIApp:
    """The application.

    Args:
        operations: All routes but the one of the OpenAPI document, which describes them.
        keys: The API keys; None admits every request.
        metrics: Counts every request.
        refused: Counts refused logins.
        trust_trace_context: Whether clients' traces are continued; see `RequestMiddleware`.
        cors_origins: Whose pages may call from a browser; empty: nobody's.
    """

    async def show_document(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    served = [*operations, Operation("GET", DOCUMENT_PATH, show_document, "This document", "admin")]
    document = orjson.dumps(openapi(served))
    routes = [operation.route() for operation in served]
    found = FindRoute(Authentication(serve_route, keys, refused), routes)
    app: ASGIApp = RequestMiddleware(found, metrics, trust_trace_context=trust_trace_context)
    return allow_origins(app, cors_origins) if cors_origins else app
