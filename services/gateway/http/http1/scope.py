"""A request as ASGI describes it."""

import asyncio

from starlette.types import Scope

from services.gateway.http.errors import REFUSAL
from services.gateway.http.http1.parser import Head
from shared.errors import LlmosError

NO_HEAD = Head("GET", "/", b"/", b"", "1.1", [], keep_alive=False, expects_continue=False)
"""Stands for a head that could not be read."""


def scope_of(head: Head, transport: asyncio.Transport, refusal: LlmosError | None) -> Scope:
    """The scope of a request; `refusal` is raised in the place of a response."""
    server, client = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.version,
        "server": tuple(server[:2]) if server else None,
        "client": tuple(client[:2]) if client else None,
        "scheme": "http",
        "method": head.method,
        "root_path": "",
        "path": head.path,
        "raw_path": head.raw_path,
        "query_string": head.query,
        "headers": head.headers,
        "state": {},
    }
    if refusal is not None:
        scope[REFUSAL] = refusal
    return scope
