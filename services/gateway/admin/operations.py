"""Typed operations of the admin API: each names its contracts and the function that runs it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.body import parse_body, parsed, read_body
from services.gateway.http.explanation import explain
from services.gateway.http.middleware import state_of
from services.gateway.http.operation import Operation
from shared.contracts.base import Contract
from shared.errors import InvalidInput

Body = TypeVar("Body", bound=Contract)

PREFIX = "/llmos/v1"
TAG = "admin"


@dataclass(frozen=True, slots=True)
class Call:
    """A request of the admin API, parsed."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    """Of the operation's `body` type."""
    key_id: str = ""
    """Of the key that asks; empty without authentication."""


@dataclass(frozen=True, slots=True)
class AdminOperation:
    """One operation, with the contract of its body and of its result."""

    method: str
    path: str
    """Below `PREFIX`, with `{parameters}`."""
    summary: str
    result: type[BaseModel]
    run: Callable[[Call], Awaitable[BaseModel]]
    body: type[Contract] | None = None
    query: Mapping[str, str] | None = None
    """Query parameters with what they mean."""

    def operation(self, max_body: int) -> Operation:
        """The operation that HTTP serves; `max_body` is in bytes."""

        async def handler(request: Request) -> Response:
            body = await parsed(partial(strict, self.body), await read_body(request, max_body)) if self.body else None
            unknown = set(request.query_params) - set(self.query or ())
            if unknown:
                name = min(unknown)
                raise InvalidInput(f"unrecognized query parameter: {name}", param=name)
            try:
                result = await self.run(
                    Call(request.path_params, request.query_params, body, state_of(request.scope).key_id)
                )
            except ValidationError as error:
                # A contract rejects a part of the path or the query.
                raise explain(error) from error
            return Response(result.model_dump_json(), media_type="application/json")

        return Operation(
            self.method,
            PREFIX + self.path,
            handler,
            self.summary,
            TAG,
            body=self.body,
            result=self.result,
            query=self.query or {},
        )


def strict(contract: type[Body], body: bytes) -> Body:
    """The contract in a body. Unknown fields, which the bus ignores, are an error: one may be misspelt."""
    parsed = parse_body(_Any, body)
    unknown = sorted(set(parsed.model_extra or {}) - set(contract.model_fields))
    if unknown:
        known = ", ".join(contract.model_fields)
        raise InvalidInput(f"unrecognized field: {unknown[0]}; fields: {known}", param=unknown[0])
    return parse_body(contract, body)


class _Any(Contract, extra="allow"):
    """A JSON object."""


_Any.EXAMPLE = _Any()
