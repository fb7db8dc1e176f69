"""Checks the key of every request before its body is read."""

from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway import auth
from services.gateway.http.middleware import state_of
from services.gateway.http.routes import takes_method
from services.gateway.keys import KeyStore
from services.gateway.refused_logins import RefusedLogins
from shared.audit.caller import working_for
from shared.errors import PermissionDenied, Unauthenticated

ANYONE = "anyone (authentication is off)"
"""For whom changes are made without keys, in events."""


class Authentication:
    """Lets requests with the right key through; raises `Unauthenticated` or `PermissionDenied` for the others.

    Args:
        app: The protected application. The route of a request is known already: see `FindRoute`.
        keys: The known keys; None switches the check off.
        refused: Counts the others.
    """

    def __init__(self, app: ASGIApp, keys: KeyStore | None, refused: RefusedLogins | None = None) -> None:
        self._app = app
        self._keys = keys
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the key, then go on."""
        method, path = scope["method"], scope["path"]
        if self._keys is not None and auth.scopes_for(method, path):
            try:
                self._check(self._keys, scope)
            except (Unauthenticated, PermissionDenied) as error:
                if self._refused is not None:
                    client = scope.get("client")
                    self._refused.note(error, state_of(scope).key_id, client[0] if client else "")
                raise
        if auth.changes_state(method, path):
            with working_for(state_of(scope).key_id or ANYONE):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, keys: KeyStore, scope: Scope) -> None:
        headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
        record = keys.check(auth.given_key(headers.get(b"authorization"), headers.get(b"x-api-key")))
        state_of(scope).key_id = record.id
        if takes_method(scope):
            auth.authorize(record, scope["method"], scope["path"])
