"""Checks the key of every request before its body is read."""

from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway import auth
from services.gateway.http.middleware import state_of
from services.gateway.http.routes import takes_method
from services.gateway.keys import KeyStore


class Authentication:
    """Lets requests with the right key through; raises `Unauthenticated` or `PermissionDenied` for the others.

    Args:
        app: The protected application. The route of a request is known already: see `FindRoute`.
        keys: The known keys; None switches the check off.
    """

    def __init__(self, app: ASGIApp, keys: KeyStore | None) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the key, then go on."""
        method, path = scope["method"], scope["path"]
        if self._keys is not None and auth.scopes_for(method, path):
            headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
            record = self._keys.check(auth.given_key(headers.get(b"authorization"), headers.get(b"x-api-key")))
            state_of(scope).key_id = record.id
            if takes_method(scope):
                auth.authorize(record, method, path)
        await self._app(scope, receive, send)
