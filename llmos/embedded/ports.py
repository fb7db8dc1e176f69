"""Free ports on loopback: those of the last start where they are still free."""

import socket

from llmos.home import Home, Ports
from shared.errors import Conflict

DEFAULT_HTTP_PORT = 8000


def is_free(port: int) -> bool:
    """Whether a server could bind this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def choose(home: Home, http: int | None) -> Ports:
    """The ports for this start, recorded in the home.

    A port that was asked for and is taken is a `Conflict`; one that was not asked for is replaced by a free one.
    """
    if http is not None and not is_free(http):
        raise Conflict(f"port {http} is in use by another program; choose one with --port", param="port")
    last = home.ports()
    if http is None:
        preferred = last.http if last else DEFAULT_HTTP_PORT
        http = preferred if is_free(preferred) else free_port()
    nats = last.nats if last and is_free(last.nats) else free_port()
    ports = Ports(http=http, nats=nats)
    home.write_ports(ports)
    return ports
