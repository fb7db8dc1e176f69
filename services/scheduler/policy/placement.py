"""Places replicas: from desired and observed state to assignments. Pure: no clock, no bus, no randomness.

Rules, in order:

1. A replica that is placed and still fits is never moved.
2. A node that is gone loses a replica as soon as the replica fits elsewhere. Until then the replica stays in the
   gone node's record, so that the node goes on with it when it returns.
3. Replicas of one deployment spread over nodes; within that, the tightest fit in memory wins.
4. A changed deployment rolls one replica at a time: one new replica is started beside the old ones, and an old one
   goes when a new one is ready. Where the new one does not fit beside them it takes the place of an old one.
   Where it does not even fit then, the old ones go on.
5. Older deployments are served first.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from services.scheduler.policy.fit import FreeCapacity, Place, best, forms, why_no_fit
from shared.contracts.resources import Resources
from shared.contracts.scheduler import Deployment, NodeAssignment, NodeStatus, ReplicaAssignment


@dataclass(frozen=True, slots=True)
class Placement:
    """What each node should run, and why some replicas run nowhere."""

    assignments: dict[str, NodeAssignment]
    """Of every node that is up or had an assignment; an absent node whose record is empty can be forgotten."""
    unplaced: dict[str, tuple[str, ...]]
    """One reason for each replica without a node, by deployment; deployments without any are left out."""


def place(
    deployments: Iterable[Deployment],
    nodes: Iterable[NodeStatus],
    assignments: Iterable[NodeAssignment],
    *,
    ready: AbstractSet[str],
    token: str,
    grace_over: bool = True,
    jobs: Mapping[str, Sequence[Resources]] | None = None,
) -> Placement:
    """The next assignments.

    Args:
        deployments: The desired state.
        nodes: The nodes that are up.
        assignments: What each node should run so far, also of nodes that are down.
        ready: Ids of the replicas that are ready.
        token: Random text; ids of new replicas derive from it.
        grace_over: Whether the grace period of silent nodes is over: a node that is not in `nodes` is gone then.
            Before that its replicas count as running.
        jobs: What jobs hold on each node. A replica that runs there stays all the same.
    """
    in_order = sorted(deployments, key=lambda deployment: (deployment.created_at, deployment.name))
    board = _Board.of(in_order, nodes, assignments, grace_over=grace_over, token=token)
    for node, held in (jobs or {}).items():
        for resources in held:
            board.hold(node, resources)
    unplaced, changed = {}, True
    while changed:  # an ended replica may let another one fit; each pass starts or ends replicas for good
        before = {node: list(held) for node, held in board.held.items()}
        unplaced = {one.name: reasons for one in in_order if (reasons := _settle(board, one, ready))}
        changed = board.held != before
    return Placement(
        {node: NodeAssignment(node=node, replicas=tuple(held)) for node, held in sorted(board.held.items())}, unplaced
    )


def serves(replica: ReplicaAssignment, deployment: Deployment) -> bool:
    """Whether the replica is as its deployment desires; if not, it is outdated."""
    need = dict(forms(deployment)).get(replica.device)
    asked = replica.options.model_copy(update={"device": deployment.options.device})  # its own device is in `forms`
    return (
        replica.deployment == deployment.name
        and (replica.model, replica.version, replica.digest)
        == (deployment.model, deployment.version, deployment.digest)
        and asked == deployment.options
        and need is not None
        and (replica.resources.memory, replica.resources.gpu_memory) == (need.memory, need.gpu_memory)
    )


def new_replica_id(deployment: Deployment, token: str, taken: AbstractSet[str]) -> str:
    """`smollm2-1-x7k2qa`: name, version and six letters of `token`'s hash. Never one of `taken`; free of dots."""
    stem = f"{deployment.name[:48].replace('.', '-')}-{deployment.version}"
    ordinal = 0
    while True:
        digest = hashlib.sha256(f"{token}/{deployment.name}/{ordinal}".encode()).digest()
        name = f"{stem}-{base64.b32encode(digest)[:6].decode().lower()}"
        if name not in taken:
            return name
        ordinal += 1


_Placed = tuple[str, ReplicaAssignment]
"""A node's id and a replica in its record."""


@dataclass(slots=True)
class _Board:
    """Which replica is on which node while the next assignments are computed."""

    capacities: dict[str, FreeCapacity]
    """The nodes that are up."""
    gone: set[str]
    held: dict[str, list[ReplicaAssignment]]
    token: str
    ids: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        in_order: list[Deployment],
        nodes: Iterable[NodeStatus],
        assignments: Iterable[NodeAssignment],
        *,
        grace_over: bool,
        token: str,
    ) -> "_Board":
        capacities = {node.id: FreeCapacity.of(node) for node in nodes}
        records = {record.node: record.replicas for record in assignments}
        gone = set(records) - set(capacities) if grace_over else set()
        board = cls(capacities, gone, {node: [] for node in {*capacities, *records}}, token)
        by_name = {deployment.name: deployment for deployment in in_order}
        board.ids = {replica.id for replicas in records.values() for replica in replicas}
        for node, replicas in sorted(records.items()):
            for replica in replicas:
                deployment = by_name.get(replica.deployment)
                outdated_and_gone = node in gone and deployment is not None and not serves(replica, deployment)
                if deployment is None or outdated_and_gone:
                    continue
                if node not in capacities:
                    board.held[node].append(replica)
                elif capacities[node].still_fits(replica):
                    board.put(node, replica)
        return board

    def put(self, node: str, replica: ReplicaAssignment) -> None:
        self.held[node].append(replica)
        self.ids.add(replica.id)
        if node in self.capacities:
            self.capacities[node].reserve(replica)

    def hold(self, node: str, resources: Resources) -> None:
        """Leave resources of a node to a job."""
        if node in self.capacities:
            self.capacities[node].hold(resources)

    def remove(self, placed: _Placed) -> None:
        node, replica = placed
        self.held[node].remove(replica)
        if node in self.capacities:
            self.capacities[node].release(replica)

    def of_deployment(self, deployment: Deployment) -> list[_Placed]:
        return [
            (node, replica)
            for node, held in sorted(self.held.items())
            for replica in held
            if replica.deployment == deployment.name
        ]

    def start(self, deployment: Deployment, place: Place) -> _Placed:
        capacity = place.capacity
        replica = ReplicaAssignment(
            id=new_replica_id(deployment, self.token, self.ids),
            deployment=deployment.name,
            model=deployment.model,
            version=deployment.version,
            digest=deployment.digest,
            options=deployment.options,
            resources=capacity.grant(place.need),
            device=place.device,
            gpu=place.gpu,
            origin=deployment.origin,
        )
        self.put(capacity.node, replica)
        return capacity.node, replica

    def find_swap(self, deployment: Deployment, outdated: list[_Placed]) -> tuple[Place, list[_Placed]] | None:
        """The fewest outdated replicas of one node whose end lets a new one fit. Changes nothing."""
        found: tuple[Place, list[_Placed]] | None = None
        for node, capacity in sorted(self.capacities.items()):
            ended: list[_Placed] = []
            for placed in (placed for placed in outdated if placed[0] == node):
                capacity.release(placed[1])
                ended.append(placed)
                if best([capacity], deployment) is not None:
                    break
            fits = best([capacity], deployment) if ended else None
            for _, replica in ended:
                capacity.reserve(replica)
            if fits is not None and (found is None or len(ended) < len(found[1])):
                found = fits, ended
        return found


def _settle(board: _Board, deployment: Deployment, ready: AbstractSet[str]) -> tuple[str, ...]:
    """Bring one deployment closer to the desired state; returns why replicas have no node."""
    placed = board.of_deployment(deployment)
    lost = [(node, replica) for node, replica in placed if node in board.gone]
    standing = [(node, replica) for node, replica in placed if node not in board.gone]
    current = [one for one in standing if serves(one[1], deployment)]
    outdated = [one for one in standing if not serves(one[1], deployment)]

    _end_surplus(board, current, deployment.replicas, ready)
    ready_count = sum(replica.id in ready for _, replica in current)
    _end_surplus(board, outdated, max(0, deployment.replicas - ready_count), ready)

    while len(current) < deployment.replicas and len(current) + len(outdated) <= deployment.replicas:
        where = best(board.capacities.values(), deployment)
        if where is None:
            break
        current.append(board.start(deployment, where))
    rolls = len(current) + len(outdated) > deployment.replicas
    if outdated and not rolls and len(current) < deployment.replicas:
        one_at_a_time = ready_count == len(current)
        swap = board.find_swap(deployment, sorted(outdated, key=lambda one: one[1].id in ready))
        if swap is not None and one_at_a_time:
            where, ended = swap
            for one in ended:
                board.remove(one)
                outdated.remove(one)
            current.append(board.start(deployment, where))
        rolls = swap is not None

    for one in lost[max(0, deployment.replicas - len(current)) :]:
        board.remove(one)
    missing = deployment.replicas - len(current) - (len(outdated) if rolls else 0)
    if missing <= 0:
        return ()
    return (_reason(board, deployment, lost, outdated),) * missing


def _end_surplus(board: _Board, standing: list[_Placed], count: int, ready: AbstractSet[str]) -> None:
    """End replicas until `count` are left: first those not ready, then on the fullest node, the newest first."""
    while len(standing) > count:
        on_node = {node: sum(other == node for other, _ in standing) for node, _ in standing}
        victim = max(
            enumerate(standing),
            key=lambda item: (item[1][1].id not in ready, on_node[item[1][0]], item[0]),
        )[1]
        standing.remove(victim)
        board.remove(victim)


def _reason(board: _Board, deployment: Deployment, lost: list[_Placed], outdated: list[_Placed]) -> str:
    reason = why_no_fit(board.capacities.values(), forms(deployment)[-1][1])
    if lost:
        reason += f"; down: {', '.join(sorted({node for node, _ in lost}))}"
    if outdated:
        versions = ", ".join(sorted({f"{replica.model}:{replica.version}" for _, replica in outdated}))
        reason += f"; what ran before goes on ({versions})"
    return reason
