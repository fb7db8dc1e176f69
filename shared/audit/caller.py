"""For whom this task works: the API key, user or job that asked. It crosses the bus as W3C baggage.

Only what our own processes attach counts: the gateway reads no baggage of its clients.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import baggage, context

_KEY = "llmos.by"


@contextmanager
def working_for(by: str) -> Iterator[None]:
    """Requests and events of this task are made for `by` while inside."""
    token = context.attach(baggage.set_baggage(_KEY, by))
    try:
        yield
    finally:
        context.detach(token)


def caller() -> str:
    """For whom this task works; empty: for nobody but its service."""
    return str(baggage.get_baggage(_KEY) or "")
