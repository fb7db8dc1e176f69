"""Which node a replica fits on, and why it fits on none.

Memory is a hard reservation: the grants on a node never exceed what it has. Threads are reserved only for a
deployment that asks for a number of them; those reservations never exceed the node's threads either. A deployment
that asks for none shares: its replicas run with all threads of their node, and compete there like any processes.
A replica on a GPU takes host memory and a part of one GPU's memory, reserved in the same way.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.contracts.resources import Resources
from shared.contracts.scheduler import Deployment, NodeStatus, ReplicaAssignment
from shared.contracts.serving import Device

_GIB = 1 << 30
_MIB = 1 << 20
_NODES_NAMED = 8
"""Nodes that a reason lists one by one."""


class Place(NamedTuple):
    """Where a replica goes, and the resources and the device that it gets there."""

    capacity: "FreeCapacity"
    need: Resources
    device: Device
    gpu: str
    """The GPU's id; empty on a CPU."""


@dataclass(slots=True)
class FreeCapacity:
    """What is left on one node."""

    node: str
    total: Resources
    memory: int = 0
    """Bytes not granted."""
    threads: int = 0
    """Threads not reserved."""
    gpus: dict[str, int] = field(default_factory=dict)
    """Bytes not granted of each GPU's memory."""
    largest_gpu: int = 0
    """Bytes of the largest GPU."""
    replicas: dict[str, int] = field(default_factory=dict)
    """How many replicas of each deployment are here."""

    @classmethod
    def of(cls, node: NodeStatus) -> "FreeCapacity":
        """An empty node."""
        gpus = {gpu.id: gpu.memory for gpu in node.gpus}
        total = node.capacity
        return cls(node.id, total, total.memory, total.threads, gpus, max(gpus.values(), default=0))

    def fits(self, need: Resources) -> bool:
        """Whether one more replica with this need fits; with `threads` 0 it shares those of the node."""
        has_threads = self.threads >= need.threads if need.threads else self.total.threads > 0
        has_gpu = not need.gpu_memory or self.free_gpu >= need.gpu_memory
        return has_threads and self.memory >= need.memory and has_gpu

    @property
    def free_gpu(self) -> int:
        """Bytes not granted of the GPU that has most of them."""
        return max(self.gpus.values(), default=0)

    def place(self, need: Resources, device: Device) -> Place | None:
        """The place of one more replica; on the GPU with the tightest fit. None if it does not fit."""
        if not self.fits(need):
            return None
        gpu = ""
        if device == "cuda":
            fitting = [(free, key) for key, free in self.gpus.items() if free >= need.gpu_memory]
            if not fitting:
                return None
            gpu = min(fitting)[1]
        return Place(self, need, device, gpu)

    def still_fits(self, replica: ReplicaAssignment) -> bool:
        """Whether a replica that was placed here before fits in what the node reports now."""
        need = reserved(replica)
        on_gpu = replica.device == "cpu" or self.gpus.get(replica.gpu, -1) >= need.gpu_memory
        return on_gpu and self.fits(need) and self.total.threads >= replica.resources.threads

    def reserve(self, replica: ReplicaAssignment) -> None:
        """Reserve a replica's resources."""
        self._count(replica, 1)

    def release(self, replica: ReplicaAssignment) -> None:
        """Release a replica's resources."""
        self._count(replica, -1)

    def hold(self, resources: Resources) -> None:
        """Take what a job holds: host memory, and the threads that it reserves."""
        self.memory -= resources.memory
        self.threads -= resources.threads

    def _count(self, replica: ReplicaAssignment, sign: int) -> None:
        need = reserved(replica)
        self.memory -= sign * need.memory
        self.threads -= sign * need.threads
        if replica.gpu in self.gpus:
            self.gpus[replica.gpu] -= sign * need.gpu_memory
        self.replicas[replica.deployment] = self.replicas.get(replica.deployment, 0) + sign

    def grant(self, need: Resources) -> Resources:
        """The resources that a replica with this need gets here."""
        return need.model_copy(update={"threads": need.threads or self.total.threads})


def reserved(replica: ReplicaAssignment) -> Resources:
    """The resources of its node that a placed replica reserves."""
    threads = replica.resources.threads if replica.threads_reserved else 0
    return replica.resources.model_copy(update={"threads": threads})


def forms(deployment: Deployment) -> list[tuple[Device, Resources]]:
    """How a replica of `deployment` may run, the best way first."""
    found: list[tuple[Device, Resources]] = []
    if deployment.options.device != "cpu" and deployment.gpu_resources is not None:
        found.append(("cuda", deployment.gpu_resources))
    if deployment.options.device != "cuda":
        found.append(("cpu", deployment.resources))
    return found


def best(capacities: Iterable[FreeCapacity], deployment: Deployment) -> Place | None:
    """Where the next replica goes: a GPU before a CPU, spread over nodes next, then the tightest fit in memory."""
    capacities = list(capacities)
    for device, need in forms(deployment):
        places = [place for capacity in capacities if (place := capacity.place(need, device)) is not None]
        if places:
            return min(
                places,
                key=lambda place: (
                    place.capacity.replicas.get(deployment.name, 0),
                    place.capacity.gpus.get(place.gpu, 0),
                    place.capacity.memory,
                    -place.capacity.threads,
                    place.capacity.node,
                ),
            )
    return None


def why_no_fit(capacities: Iterable[FreeCapacity], need: Resources) -> str:
    """Why a replica fits on no node: `no node has 3.2 GiB free: node-a has 1.1 GiB`."""
    capacities = sorted(capacities, key=lambda capacity: (-capacity.memory, -capacity.threads, capacity.node))
    if not capacities:
        return "no nodes are up"
    if need.gpu_memory and not any(capacity.free_gpu >= need.gpu_memory for capacity in capacities):
        return _why_no_gpu(capacities, need.gpu_memory)
    lacks_memory = any(capacity.memory < need.memory for capacity in capacities)
    lacks_threads = any(not capacity.fits(Resources(memory=0, threads=need.threads)) for capacity in capacities)
    needs, found = [], []
    if lacks_memory:
        needs.append(readable_bytes(need.memory, up=True))
        found.append([readable_bytes(max(0, capacity.memory)) for capacity in capacities])
    if lacks_threads:
        needs.append(_threads(need.threads or 1))
        found.append(
            [str(max(0, capacity.threads) if need.threads else capacity.total.threads) for capacity in capacities]
        )
    each = [f"{capacity.node} has {' and '.join(has)}" for capacity, *has in zip(capacities, *found, strict=True)]
    if lacks_threads:
        each = [f"{text} threads" if lacks_memory else text for text in each]
    more = f", and {len(each) - _NODES_NAMED} more nodes have less" if len(each) > _NODES_NAMED else ""
    reason = f"no node has {' and '.join(needs)} free: {', '.join(each[:_NODES_NAMED])}{more}"
    if all(capacity.total.memory < need.memory for capacity in capacities):
        reason += "; none has that much in all, so choose fewer slots or a smaller max_len"
    elif all(capacity.total.threads < need.threads for capacity in capacities):
        reason += "; none has that many in all, so choose fewer threads"
    return reason


def _why_no_gpu(capacities: list[FreeCapacity], need: int) -> str:
    with_gpu = sorted(
        (capacity for capacity in capacities if capacity.gpus),
        key=lambda capacity: (-capacity.free_gpu, capacity.node),
    )
    if not with_gpu:
        return "no node has a GPU that ONNX Runtime can use; deploy with --device cpu, or see docs/cuda.md"
    each = ", ".join(
        f"{capacity.node} has {readable_bytes(capacity.free_gpu)}" for capacity in with_gpu[:_NODES_NAMED]
    )
    reason = f"no node has a GPU with {readable_bytes(need, up=True)} free: {each}"
    if all(capacity.largest_gpu < need for capacity in with_gpu):
        reason += "; none has that much in all, so choose fewer slots or a smaller max_len"
    return reason


def readable_bytes(count: int, *, up: bool = False) -> str:
    """`3.2 GiB`; rounded down, or up, so that a need never reads as less than the free amount that it exceeds."""
    unit, name = (_GIB, "GiB") if count * 10 >= _GIB else (_MIB, "MiB")
    tenths = count * 10 / unit
    return f"{(math.ceil(tenths) if up else math.floor(tenths)) / 10} {name}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
