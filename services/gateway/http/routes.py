"""Finds the route of a request before its key is checked, and serves it after.

An unknown path is 404 with any key and with none, as with OpenAI: which paths exist is no secret. On a known path the
key comes first, and then the method: 405 names all methods that the path takes.
"""

from collections.abc import Sequence

from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.http.errors import REFUSAL, MethodNotAllowed
from services.gateway.http.middleware import state_of
from services.gateway.http.operation import OperationRoute
from shared.errors import NotFound

_ALLOWED = "llmos.allowed"
"""The scope's key for the methods of a path that does not take the request's."""


class FindRoute:
    """Puts the route into the scope; raises `NotFound`, or the error of a request that could not be read."""

    def __init__(self, app: ASGIApp, routes: Sequence[OperationRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the route, then go on."""
        if (refusal := scope.get(REFUSAL)) is not None:
            raise refusal
        allowed: set[str] = set()
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.NONE:
                continue
            scope["route"] = route
            state_of(scope).dialect = route.dialect
            scope.update(found)
            if match is Match.FULL:
                break
            allowed |= route.methods or set()
        else:
            if not allowed:
                method, path = scope["method"], scope["path"]
                raise NotFound(f"there is no {method} {path:.200}; the routes are in /llmos/v1/openapi.json")
            scope[_ALLOWED] = ", ".join(sorted(allowed))
        await self._app(scope, receive, send)


def takes_method(scope: Scope) -> bool:
    """Whether the route that was found takes the request's method."""
    return _ALLOWED not in scope


async def serve_route(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the route that was found; raises `MethodNotAllowed`."""
    if not takes_method(scope):
        method, path, allowed = scope["method"], scope["path"], scope[_ALLOWED]
        raise MethodNotAllowed(f"{path:.200} does not take {method}; it takes {allowed}", allowed)
    await scope["route"].handle(scope, receive, send)
