"""Deployments, nodes and assignments with defaults."""

from datetime import UTC, datetime, timedelta

from shared.contracts.resources import Resources
from shared.contracts.scheduler import Deployment, NodeAssignment, NodeStatus, ReplicaAssignment
from shared.contracts.serving import ReplicaOptions

MIB = 1 << 20
GIB = 1 << 30
START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def deployment(
    name: str = "chat",
    *,
    replicas: int = 1,
    memory: int = GIB,
    threads: int = 0,
    version: int = 1,
    age: int = 0,
    slots: int = 16,
) -> Deployment:
    """A deployment; a larger `age` is older."""
    return Deployment(
        name=name,
        model="smollm2",
        version=version,
        digest=f"{version:064x}",
        replicas=replicas,
        options=ReplicaOptions(slots=slots, max_len=4096, threads=threads, device="cpu"),
        resources=Resources(memory=memory, threads=threads),
        created_at=START - timedelta(seconds=age),
    )


def with_options(of: Deployment, **changes: object) -> Deployment:
    return of.model_copy(update={"options": of.options.model_copy(update=changes)})


def node(name: str, *, memory: int = 4 * GIB, threads: int = 4) -> NodeStatus:
    return NodeStatus(id=name, capacity=Resources(memory=memory, threads=threads), started_at=START)


def replica(key: str, of: Deployment, *, threads: int = 4) -> ReplicaAssignment:
    """A replica that serves `of` as it is; `threads` is what a sharing one is granted."""
    need = of.resources
    return ReplicaAssignment(
        id=key,
        deployment=of.name,
        model=of.model,
        version=of.version,
        digest=of.digest,
        options=of.options,
        resources=Resources(memory=need.memory, threads=need.threads or threads),
    )


def runs(name: str, *replicas: ReplicaAssignment) -> NodeAssignment:
    return NodeAssignment(node=name, replicas=replicas)
