"""From what a node should run and what it runs to what it does next. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.contracts.scheduler import ReplicaAssignment

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Held:
    """A replica whose process exists, or will again."""

    assignment: ReplicaAssignment
    stopping: bool = False
    """It drains; its memory is its own until it has ended."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Drain a replica and end it."""

    replica: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start a replica."""

    assignment: ReplicaAssignment


@dataclass(frozen=True, slots=True)
class Hold:
    """Do not start a replica yet."""

    assignment: ReplicaAssignment
    reason: str


Instruction = Stop | Start | Hold


def reconcile(
    wanted: Iterable[ReplicaAssignment],
    held: Mapping[str, Held],
    *,
    memory: int,
    gpus: Mapping[str, int] | None = None,
) -> list[Instruction]:
    """What to do now: stops first, then one start or hold for each replica that is wanted and not held.

    A replica is started only when its grant fits beside all processes that exist, those that still drain included: so
    a replica that takes another's place waits for its end. A replica that drains is never taken back; the same id
    assigned again, or with other resources, is started anew when the process has ended.

    Args:
        wanted: The node's assignment, in its order.
        held: What exists, by replica id.
        memory: Bytes that all replicas together may use.
        gpus: Bytes that they may use of each GPU, by its id.
    """
    wanted = list(wanted)
    by_id = {assignment.id: assignment for assignment in wanted}
    instructions: list[Instruction] = [
        Stop(key)
        for key, replica in sorted(held.items())
        if not replica.stopping and by_id.get(key) != replica.assignment
    ]
    free = memory - sum(replica.assignment.resources.memory for replica in held.values())
    free_gpus = dict(gpus or {})
    for replica in held.values():
        if replica.assignment.gpu:
            left = free_gpus.get(replica.assignment.gpu, 0)
            free_gpus[replica.assignment.gpu] = left - replica.assignment.resources.gpu_memory
    for assignment in wanted:
        present = held.get(assignment.id)
        need, gpu_need = assignment.resources.memory, assignment.resources.gpu_memory
        if present is not None and not present.stopping and present.assignment == assignment:
            continue
        if present is not None:
            instructions.append(Hold(assignment, "waits until its former process has ended"))
        elif assignment.gpu and gpu_need > free_gpus.get(assignment.gpu, 0):
            left = free_gpus.get(assignment.gpu, 0)
            reason = f"needs {_mib(gpu_need)} of GPU {assignment.gpu}, and {_mib(max(0, left))} are free"
            instructions.append(Hold(assignment, reason + _waits(held, by_id)))
        elif need <= free:
            free -= need
            if assignment.gpu:
                free_gpus[assignment.gpu] -= gpu_need
            instructions.append(Start(assignment))
        else:
            instructions.append(Hold(assignment, _lacks(need, free, memory, held, by_id)))
    return instructions


def _lacks(
    need: int, free: int, memory: int, held: Mapping[str, Held], by_id: Mapping[str, ReplicaAssignment]
) -> str:
    if need > memory:
        return f"needs {_mib(need)}, and this node may use {_mib(memory)} in all"
    return f"needs {_mib(need)}, and {_mib(max(0, free))} are free{_waits(held, by_id)}"


def _waits(held: Mapping[str, Held], by_id: Mapping[str, ReplicaAssignment]) -> str:
    ending = sorted(key for key, replica in held.items() if replica.stopping or by_id.get(key) != replica.assignment)
    return f"; waits for the end of {', '.join(ending)}" if ending else ""


def _mib(count: int) -> str:
    return f"{count / _MIB:.1f} MiB"
