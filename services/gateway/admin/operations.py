"""The admin API as one table: each row is a route, its contracts and what answers it. OpenAPI is made from it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.gateway.http.body import explain, parse_body, read_body
from shared.contracts.base import Contract
from shared.errors import InvalidInput

PREFIX = "/llmos/v1"


@dataclass(frozen=True, slots=True)
class Call:
    """A request of the admin API, parsed."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    """Of the operation's `body` type."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One route."""

    method: str
    path: str
    """Below `PREFIX`, with `{parameters}`."""
    summary: str
    answer: type[BaseModel]
    run: Callable[[Call], Awaitable[BaseModel]]
    body: type[Contract] | None = None
    status: int = 200
    query: Mapping[str, str] | None = None
    """Query parameters with what they mean."""

    def route(self, max_body: int) -> Route:
        """The route that the web framework serves."""

        async def endpoint(request: Request) -> Response:
            body = _strict(self.body, await read_body(request, max_body)) if self.body else None
            unknown = set(request.query_params) - set(self.query or ())
            if unknown:
                name = min(unknown)
                raise InvalidInput(f"unrecognized query parameter: {name}", param=name)
            try:
                answer = await self.run(Call(request.path_params, request.query_params, body))
            except ValidationError as error:
                # A part of the path or the query that a contract does not take.
                raise explain(error) from error
            return Response(answer.model_dump_json(), status_code=self.status, media_type="application/json")

        return Route(PREFIX + self.path, endpoint, methods=[self.method])


def _strict(contract: type[Contract], body: bytes) -> Contract:
    """Contracts ignore what they do not know, for peers of other versions; a person is told of a misspelt field."""
    parsed = parse_body(_Any, body)
    unknown = sorted(set(parsed.model_extra or {}) - set(contract.model_fields))
    if unknown:
        known = ", ".join(contract.model_fields)
        raise InvalidInput(f"unrecognized field: {unknown[0]}; fields: {known}", param=unknown[0])
    return parse_body(contract, body)


class _Any(Contract, extra="allow"):
    """A JSON object."""


_Any.EXAMPLE = _Any()
