"""Lets pages of other origins call the API from a browser (CORS), where the settings name these origins."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_EXPOSED = ("x-request-id", "x-trace-id", "retry-after")
"""Headers of a response that a page may read."""


def allow_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """`app`, with CORS outside of it: preflights need no key, and pages can read errors too.

    Keys travel in headers that a page sets itself, so cookies and the like are not allowed (`allow_credentials`).
    """
    return CORSMiddleware(
        app, allow_origins=tuple(origins), allow_methods=("*",), allow_headers=("*",), expose_headers=_EXPOSED
    )
