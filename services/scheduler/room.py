"""Which node has room for a replica, and why none has.

Memory is a hard reservation: the grants on a node never exceed what it has. Threads are reserved only for a
deployment that asks for a number of them; those reservations never exceed the node's threads either. A deployment
that asks for none shares: its replicas run with all threads of their node, and compete there like any processes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.contracts.scheduler import Deployment, NodeStatus, ReplicaAssignment, Resources

_GIB = 1 << 30
_MIB = 1 << 20
_NODES_NAMED = 8
"""Nodes that a reason lists one by one."""


@dataclass(slots=True)
class Room:
    """What is left on one node."""

    node: str
    total: Resources
    memory: int = 0
    """Bytes not granted."""
    threads: int = 0
    """Threads not reserved."""
    replicas: dict[str, int] = field(default_factory=dict)
    """How many replicas of each deployment stand here."""

    @classmethod
    def of(cls, node: NodeStatus) -> "Room":
        """An empty node."""
        return cls(node.id, node.capacity, node.capacity.memory, node.capacity.threads)

    def fits(self, need: Resources) -> bool:
        """Whether one more replica that needs this fits; `threads` 0 shares, for which one thread must exist."""
        has_threads = self.threads >= need.threads if need.threads else self.total.threads > 0
        return has_threads and self.memory >= need.memory

    def still_fits(self, replica: ReplicaAssignment) -> bool:
        """Whether a replica that was placed here before fits in what the node reports now."""
        return self.fits(reserved(replica)) and self.total.threads >= replica.resources.threads

    def take(self, replica: ReplicaAssignment) -> None:
        """Count a replica in."""
        need = reserved(replica)
        self.memory -= need.memory
        self.threads -= need.threads
        self.replicas[replica.deployment] = self.replicas.get(replica.deployment, 0) + 1

    def give_back(self, replica: ReplicaAssignment) -> None:
        """Count a replica out."""
        need = reserved(replica)
        self.memory += need.memory
        self.threads += need.threads
        self.replicas[replica.deployment] -= 1

    def grant(self, need: Resources) -> Resources:
        """What a replica that needs this gets here."""
        return Resources(memory=need.memory, threads=need.threads or self.total.threads)


def reserved(replica: ReplicaAssignment) -> Resources:
    """What a placed replica takes away from its node."""
    threads = replica.resources.threads if replica.threads_reserved else 0
    return Resources(memory=replica.resources.memory, threads=threads)


def best(rooms: Iterable[Room], deployment: Deployment) -> Room | None:
    """Where the next replica goes: spread over nodes first, the tightest fit in memory next."""
    fitting = [room for room in rooms if room.fits(deployment.resources)]
    return min(
        fitting,
        key=lambda room: (room.replicas.get(deployment.name, 0), room.memory, -room.threads, room.node),
        default=None,
    )


def why_none(rooms: Iterable[Room], need: Resources) -> str:
    """Why no room fits: `no node has 3.2 GiB free: node-a has 1.1 GiB`."""
    rooms = sorted(rooms, key=lambda room: (-room.memory, -room.threads, room.node))
    if not rooms:
        return "no nodes are up"
    lacks_memory = any(room.memory < need.memory for room in rooms)
    lacks_threads = any(not Room.fits(room, Resources(memory=0, threads=need.threads)) for room in rooms)
    wanted, found = [], []
    if lacks_memory:
        wanted.append(readable_bytes(need.memory, up=True))
        found.append([readable_bytes(room.memory) for room in rooms])
    if lacks_threads:
        wanted.append(_threads(need.threads or 1))
        found.append([str(room.threads if need.threads else room.total.threads) for room in rooms])
    each = [f"{room.node} has {' and '.join(has)}" for room, *has in zip(rooms, *found, strict=True)]
    if lacks_threads:
        each = [f"{text} threads" if lacks_memory else text for text in each]
    more = f", and {len(each) - _NODES_NAMED} more nodes have less" if len(each) > _NODES_NAMED else ""
    reason = f"no node has {' and '.join(wanted)} free: {', '.join(each[:_NODES_NAMED])}{more}"
    if all(room.total.memory < need.memory for room in rooms):
        reason += "; none has that much in all, so choose fewer slots or a smaller max_len"
    elif all(room.total.threads < need.threads for room in rooms):
        reason += "; none has that many in all, so choose fewer threads"
    return reason


def readable_bytes(count: int, *, up: bool = False) -> str:
    """`3.2 GiB`; rounded down, or up, so that what is needed never reads as less than what it lacks."""
    unit, name = (_GIB, "GiB") if count * 10 >= _GIB else (_MIB, "MiB")
    tenths = count * 10 / unit
    return f"{(math.ceil(tenths) if up else math.floor(tenths)) / 10} {name}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
