"""Desired and observed state side by side. Pure."""

from collections.abc import Iterable, Mapping

from services.scheduler.policy.fit import FreeCapacity
from services.scheduler.policy.placement import serves
from shared.contracts.resources import Resources
from shared.contracts.scheduler import (
    Deployment,
    DeploymentStatus,
    NodeAssignment,
    NodeStatus,
    NodeView,
    ReplicaAssignment,
    ReplicaState,
    ReplicaStatus,
)


def deployment_status(
    deployment: Deployment,
    assignments: Iterable[NodeAssignment],
    statuses: Mapping[str, ReplicaStatus],
    nodes: Mapping[str, NodeStatus],
    unplaced: tuple[str, ...],
) -> DeploymentStatus:
    """The status of one deployment.

    Args:
        deployment: The desired state.
        assignments: What nodes should run.
        statuses: What replicas report, by id.
        nodes: The nodes that are up, by id.
        unplaced: Why replicas are without a node.
    """
    placed = sorted(
        (
            (record.node, replica)
            for record in assignments
            for replica in record.replicas
            if _is_of(replica, deployment)
        ),
        key=lambda item: item[1].id,
    )
    replicas = tuple(statuses.get(replica.id) or _silent(node, replica, up=node in nodes) for node, replica in placed)
    current = {replica.id for _, replica in placed if serves(replica, deployment)}
    ready = sum(status.state is ReplicaState.READY and status.id in current for status in replicas)
    return DeploymentStatus(deployment=deployment, ready=ready, replicas=replicas, unplaced=unplaced)


def node_view(node: NodeStatus, assignment: NodeAssignment | None) -> NodeView:
    """A node with what is granted on it."""
    free = FreeCapacity.of(node)
    replicas = assignment.replicas if assignment else ()
    for replica in replicas:
        free.reserve(replica)
    jobs = assignment.jobs if assignment else ()
    for job in jobs:
        free.hold(job.resources)
    granted = Resources(
        memory=max(0, node.capacity.memory - free.memory),
        threads=max(0, node.capacity.threads - free.threads),
        gpu_memory=max(0, sum(gpu.memory for gpu in node.gpus) - sum(free.gpus.values())),
    )
    return NodeView(
        status=node,
        granted=granted,
        replicas=tuple(replica.id for replica in replicas),
        jobs=tuple(job.id for job in jobs),
    )


def _is_of(replica: ReplicaAssignment, deployment: Deployment) -> bool:
    return replica.deployment == deployment.name


def _silent(node: str, replica: ReplicaAssignment, *, up: bool) -> ReplicaStatus:
    """A replica that is assigned and has no status, yet or any more."""
    message = (
        f"{node} reports nothing of it yet, or no more" if up else f"{node} is down; it goes on when {node} returns"
    )
    return replica.status(node, ReplicaState.STARTING, message)
