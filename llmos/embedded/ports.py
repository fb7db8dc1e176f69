"""Free ports on loopback: those of the last start where they are still free."""

import socket

from llmos.home import Home, Ports
from shared.errors import Conflict

DEFAULT_HTTP_PORT, DEFAULT_GRPC_PORT = 8000, 8001


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
        http = _preferred(last.http if last else DEFAULT_HTTP_PORT)
    grpc = _preferred(last.grpc if last and last.grpc else DEFAULT_GRPC_PORT, besides=http)
    nats = last.nats if last and is_free(last.nats) else free_port()
    ports = Ports(http=http, nats=nats, grpc=grpc)
    home.write_ports(ports)
    return ports


def _preferred(port: int, besides: int = 0) -> int:
    """The port, or a free one if it is taken, also by the port `besides`."""
    return port if port != besides and is_free(port) else free_port()
