"""All routes of the gateway as one ASGI application."""

from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from services.gateway.admin.api import AdminApi
from services.gateway.admin.blobs import BlobsApi
from services.gateway.admin.operations import PREFIX
from services.gateway.admin.traces import TracesApi
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.http.authentication import Authentication
from services.gateway.http.health import HealthApi
from services.gateway.http.middleware import Observed
from services.gateway.http.openapi import openapi
from services.gateway.keys import KeyStore
from services.gateway.metrics import Metrics
from services.gateway.openai.chat import ChatApi
from services.gateway.openai.completions import CompletionsApi
from services.gateway.openai.embeddings import EmbeddingsApi
from services.gateway.openai.encode import EncodingAsker
from services.gateway.openai.generate import Asker
from services.gateway.openai.models import ModelsApi
from shared.bus.port import Bus
from shared.storage.port import ArtifactStore


def make_app(
    *,
    bus: Bus,
    dispatcher: Dispatcher,
    keys: KeyStore,
    store: ArtifactStore | None,
    metrics: Metrics,
    reasons: Callable[[], tuple[str, ...]],
    request_timeout: float,
    max_body: int,
    check_keys: bool,
) -> ASGIApp:
    """The application.

    Args:
        bus: For the admin routes, and to encoders.
        dispatcher: Answers chat and completion requests.
        keys: The API keys.
        store: For blobs; None where the gateway has none.
        metrics: Counts every request.
        reasons: Why the gateway is not ready.
        request_timeout: Seconds that an answer may take.
        max_body: Bytes of a body, blobs excepted.
        check_keys: False lets everybody in.
    """
    asker = Asker(dispatcher, request_timeout)
    embeddings = EmbeddingsApi(EncodingAsker(bus, dispatcher, request_timeout), max_body)
    admin = AdminApi(bus, keys)
    operations = admin.operations()
    document = orjson.dumps(openapi(operations))
    models, health, blobs = ModelsApi(dispatcher.table), HealthApi(reasons, metrics), BlobsApi(store)

    async def describe(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    routes = [
        Route("/v1/chat/completions", ChatApi(asker, max_body).create, methods=["POST"]),
        Route("/v1/completions", CompletionsApi(asker, max_body).create, methods=["POST"]),
        Route("/v1/embeddings", embeddings.embed, methods=["POST"]),
        Route("/v1/classify", embeddings.classify, methods=["POST"]),
        Route("/v1/rerank", embeddings.rerank, methods=["POST"]),
        Route("/v1/models", models.list, methods=["GET"]),
        Route("/v1/models/{model}", models.show, methods=["GET"]),
        Route("/healthz", health.alive, methods=["GET"]),
        Route("/readyz", health.ready, methods=["GET"]),
        Route("/metrics", health.metrics, methods=["GET"]),
        Route(PREFIX + "/openapi.json", describe, methods=["GET"]),
        Route(PREFIX + "/blobs/{digest}", blobs.show, methods=["GET"]),
        Route(PREFIX + "/blobs/{digest}", blobs.put, methods=["PUT"]),
        Route(PREFIX + "/traces/{trace_id}", TracesApi(admin).show, methods=["GET"]),
        *(operation.route(max_body) for operation in operations),
    ]
    router = Router(routes, redirect_slashes=False)
    return Observed(Authentication(router, keys if check_keys else None), metrics)
