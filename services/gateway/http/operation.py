"""One route of the gateway, with what OpenAPI says of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from services.gateway.http.dialect import OPENAI, Dialect
from services.gateway.http.parameters import Parameters
from services.gateway.http.paths import part

Content = Mapping[str, Any]
"""OpenAPI's map of media types to their schemas."""

OBJECT: Content = {"application/json": {"schema": {"type": "object"}}}
"""Any JSON object."""
STREAM: Content = {**OBJECT, "text/event-stream": {}}
"""A JSON object, or a stream of events."""
OCTETS: Content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


Handler = Callable[[Request], Awaitable[ASGIApp]]
"""From a request to what responds."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path: OpenAPI's word for it. A package of routes has a function that returns its operations."""

    method: str
    path: str
    """With `{parameters}`."""
    handler: Handler
    summary: str
    tag: str
    body: type[BaseModel] | Content | None = None
    """What a request carries: the model that parses it, or a description."""
    result: type[BaseModel] | Content = field(default_factory=lambda: OBJECT)
    """What a response carries: the model that is written, or a description."""
    statuses: tuple[int, ...] = (200,)
    """The statuses of success."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Query parameters with what they mean."""
    dialect: Dialect = OPENAI
    """Of its errors."""
    parameters: Parameters | None = None
    """Of its body besides the fields of the model."""

    def route(self) -> "OperationRoute":
        """The route that the web framework serves."""
        return OperationRoute(self, self._with_parts if "{" in self.path else self.handler)

    async def _with_parts(self, request: Request) -> ASGIApp:
        request.scope["path_params"] = {name: part(text) for name, text in request.path_params.items()}
        return await self.handler(request)


class OperationRoute(Route):
    """A route that knows the dialect of its operation."""

    def __init__(self, operation: Operation, endpoint: Handler) -> None:
        super().__init__(operation.path, endpoint, methods=[operation.method])
        self.dialect = operation.dialect
