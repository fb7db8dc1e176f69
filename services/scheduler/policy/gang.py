"""The nodes of a job: all that it needs at once, or a reason why not. Pure.

Processes that train together talk to one another, so their nodes must reach each other: nodes with an address in a
network do, and nodes with an address of loopback do on one machine only.
"""

from collections.abc import Iterable, Mapping

from services.scheduler.policy.fit import FreeCapacity, readable_bytes, why_no_fit
from shared.addresses import is_loopback
from shared.contracts.job import Job
from shared.contracts.resources import Resources
from shared.contracts.scheduler import NodeStatus

_NODES_NAMED = 8
ADDRESS_VARIABLE = "LLMOS_TRAINING_ADDRESS"


def need_of(job: Job) -> Resources:
    """What a job takes of each of its nodes; none of a GPU."""
    return job.resources.model_copy(update={"gpu_memory": 0})


def choose(
    need: Resources, count: int, free: Mapping[str, FreeCapacity], nodes: Mapping[str, NodeStatus]
) -> tuple[FreeCapacity, ...]:
    """`count` nodes with the need free that reach one another, the emptiest ones; none if there are fewer.

    Args:
        need: Of each node.
        count: How many.
        free: What is left on the nodes that are up.
        nodes: The same nodes.
    """
    fitting = [capacity for capacity in free.values() if capacity.fits(need)]
    groups = _groups(fitting, nodes) if count > 1 else [fitting]
    gangs = [sorted(group, key=_what_is_free, reverse=True)[:count] for group in groups if len(group) >= count]
    return tuple(max(gangs, key=lambda gang: [_what_is_free(one) for one in gang], default=()))


def why_none(need: Resources, count: int, free: Mapping[str, FreeCapacity], nodes: Mapping[str, NodeStatus]) -> str:
    """Why `choose` finds none: `needs 2 nodes with 3.0 GiB free, 1 has: node-a has 4.0 GiB, node-b has 1.0 GiB`."""
    if count == 1:
        return why_no_fit(free.values(), need)
    if len(free) < count:
        return f"needs {count} nodes, {len(free)} {'is' if len(free) == 1 else 'are'} up"
    fitting = [capacity for capacity in free.values() if capacity.fits(need)]
    if len(fitting) < count:
        found = f"{len(fitting)} {'has' if len(fitting) == 1 else 'have'}" if fitting else "none has"
        return f"needs {count} nodes with {_amount(need)} free, {found}: {_each(free.values(), need)}"
    apart = ", ".join(f"{one.node} ({_where(nodes[one.node])})" for one in _named(fitting))
    return (
        f"needs {count} nodes that reach one another, and these do not: {apart}; set {ADDRESS_VARIABLE} on each of"
        " them to its address in their network"
    )


def _groups(fitting: Iterable[FreeCapacity], nodes: Mapping[str, NodeStatus]) -> list[list[FreeCapacity]]:
    """Nodes that reach one another."""
    groups: dict[tuple[str, str], list[FreeCapacity]] = {}
    for capacity in fitting:
        status = nodes[capacity.node]
        network = ("network", "")
        if is_loopback(status.training_address):
            network = ("machine", status.loopback) if status.loopback else ("node", status.id)
        groups.setdefault(network, []).append(capacity)
    return list(groups.values())


def _what_is_free(capacity: FreeCapacity) -> tuple[int, int, str]:
    return capacity.memory, capacity.threads, capacity.node


def _named(capacities: Iterable[FreeCapacity]) -> list[FreeCapacity]:
    return sorted(capacities, key=_what_is_free, reverse=True)[:_NODES_NAMED]


def _each(capacities: Iterable[FreeCapacity], need: Resources) -> str:
    return ", ".join(
        f"{one.node} has {_amount(Resources(memory=max(0, one.memory), threads=max(0, one.threads)), like=need)}"
        for one in _named(capacities)
    )


def _amount(resources: Resources, *, like: Resources | None = None) -> str:
    """`3.0 GiB and 2 threads`; of what is free, only what `like` asks for, and rounded down."""
    memory = readable_bytes(resources.memory, up=like is None)
    threads = f"{resources.threads} thread{'' if resources.threads == 1 else 's'}"
    return f"{memory} and {threads}" if (like or resources).threads else memory


def _where(status: NodeStatus) -> str:
    return f"{status.training_address} on {status.host or 'a host without a name'}"
