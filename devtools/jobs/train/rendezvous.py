"""Where the processes of a training meet: an address of its first node, and a port that is free."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from devtools.jobs.settings import Settings
from devtools.jobs.tool import Run
from devtools.jobs.train.plan import Plan
from shared.errors import InvalidInput
from shared.service.interfaces import interface_of

LOOPBACK = "127.0.0.1"
_WAITING = 256
"""Connections that wait to be accepted."""


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Of one node."""

    endpoint: str
    """`host:port`."""
    interface: str
    """The network interface on which the processes of this node talk to those of the others."""
    nodes: int
    rank: int
    """Of this node."""
    listener: int | None
    """File descriptor of the socket that listens at the endpoint; None on the other nodes."""


@contextmanager
def rendezvous_of(run: Run, plan: Plan) -> Iterator[Rendezvous | None]:
    """Where the processes of this attempt meet; None for a single process.

    The first node listens at once, so that no other program gets the port, and says where.

    Raises:
        InvalidInput: The node's address for trainings is none of this machine.
    """
    nodes, rank = plan.job.nodes, run.assignment.rank
    if nodes != run.assignment.spec.node_count:
        raise InvalidInput(
            f"recipe, [job]: nodes is {nodes}, and the job was asked for {run.assignment.spec.node_count} nodes:"
            " set node_count of the request to the same",
            param="nodes",
        )
    if nodes == plan.job.processes == 1:
        yield None
        return
    address = LOOPBACK if nodes == 1 else Settings().training_address  # pyright: ignore[reportCallIssue]
    interface = interface_of(address)
    if rank > 0:
        yield Rendezvous(run.assignment.rendezvous, interface, nodes, rank, None)
        return
    with socket.create_server(
        (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=_WAITING
    ) as listener:
        port = listener.getsockname()[1]
        endpoint = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        if nodes > 1:
            run.messages.send(rendezvous=endpoint)
        yield Rendezvous(endpoint, interface, nodes, rank, listener.fileno())
