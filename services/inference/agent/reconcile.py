"""Compares the replicas that a node should run with those that exist, and returns what to start and stop. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.contracts.scheduler import ReplicaAssignment

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ExistingReplica:
    """A replica on this node; its process runs, or is started again."""

    assignment: ReplicaAssignment
    stopping: bool = False
    """It drains; its memory is not free until its process has ended."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Drain a replica and end it."""

    replica: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start a replica."""

    assignment: ReplicaAssignment


@dataclass(frozen=True, slots=True)
class Defer:
    """Do not start a replica yet."""

    assignment: ReplicaAssignment
    reason: str


Instruction = Stop | Start | Defer


def reconcile(
    desired: Iterable[ReplicaAssignment],
    existing: Mapping[str, ExistingReplica],
    *,
    memory: int,
    gpus: Mapping[str, int] | None = None,
) -> list[Instruction]:
    """The instructions: stops first, then a start or a deferral for each desired replica that does not exist.

    A replica starts only when its memory fits beside that of all existing processes, draining ones included. So a
    replica that replaces another one waits until the other has ended. A replica that drains is not kept; if its id is
    assigned again, or with other resources, a new process starts after the old one has ended.

    Args:
        desired: The node's assignment, in its order.
        existing: The replicas on this node, by id.
        memory: Bytes that all replicas together may use.
        gpus: Bytes that they may use of each GPU, by its id.
    """
    desired = list(desired)
    by_id = {assignment.id: assignment for assignment in desired}
    instructions: list[Instruction] = [
        Stop(key)
        for key, replica in sorted(existing.items())
        if not replica.stopping and by_id.get(key) != replica.assignment
    ]
    free = memory - sum(replica.assignment.resources.memory for replica in existing.values())
    free_gpus = dict(gpus or {})
    for replica in existing.values():
        if replica.assignment.gpu:
            left = free_gpus.get(replica.assignment.gpu, 0)
            free_gpus[replica.assignment.gpu] = left - replica.assignment.resources.gpu_memory
    for assignment in desired:
        present = existing.get(assignment.id)
        need, gpu_need = assignment.resources.memory, assignment.resources.gpu_memory
        if present is not None and not present.stopping and present.assignment == assignment:
            continue
        if present is not None:
            instructions.append(Defer(assignment, "waits until its former process has ended"))
        elif assignment.gpu and gpu_need > free_gpus.get(assignment.gpu, 0):
            left = free_gpus.get(assignment.gpu, 0)
            reason = f"needs {_mib(gpu_need)} of GPU {assignment.gpu}, and {_mib(max(0, left))} are free"
            instructions.append(Defer(assignment, reason + _waiting_for(existing, by_id)))
        elif need <= free:
            free -= need
            if assignment.gpu:
                free_gpus[assignment.gpu] -= gpu_need
            instructions.append(Start(assignment))
        else:
            instructions.append(Defer(assignment, _shortage(need, free, memory, existing, by_id)))
    return instructions


def _shortage(
    need: int, free: int, memory: int, existing: Mapping[str, ExistingReplica], by_id: Mapping[str, ReplicaAssignment]
) -> str:
    if need > memory:
        return f"needs {_mib(need)}, and this node may use {_mib(memory)} in all"
    return f"needs {_mib(need)}, and {_mib(max(0, free))} are free{_waiting_for(existing, by_id)}"


def _waiting_for(existing: Mapping[str, ExistingReplica], by_id: Mapping[str, ReplicaAssignment]) -> str:
    ending = sorted(
        key for key, replica in existing.items() if replica.stopping or by_id.get(key) != replica.assignment
    )
    return f"; waits for the end of {', '.join(ending)}" if ending else ""


def _mib(count: int) -> str:
    return f"{count / _MIB:.1f} MiB"
