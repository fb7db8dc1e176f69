"""Desired and observed state: deployments, nodes, assignments, replica status.

| KV bucket | key | record | written by |
|---|---|---|---|
| `LLMOS_DEPLOYMENTS` | deployment name | `Deployment` | scheduler (on request) |
| `LLMOS_NODES` | node id | `NodeStatus` (lease) | node agent |
| `LLMOS_REPLICAS` | replica id | `ReplicaStatus` (lease) | node agent |
| `LLMOS_ASSIGNMENTS` | node id | `NodeAssignment` | scheduler |
| `LLMOS_LEASES` | `scheduler` | `Leadership` (lease) | the leading scheduler |
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.manifest import Digest, Name, Task

DEPLOYMENTS_BUCKET = "LLMOS_DEPLOYMENTS"
NODES_BUCKET = "LLMOS_NODES"
REPLICAS_BUCKET = "LLMOS_REPLICAS"
ASSIGNMENTS_BUCKET = "LLMOS_ASSIGNMENTS"
LEASES_BUCKET = "LLMOS_LEASES"

DRAFT_TOKENS = 7
"""By default; with the row before them they fill one tile of eight rows in LLMOS's own kernels."""
MAX_DRAFT_TOKENS = 15

EVENTS_STREAM = "LLMOS_EVENTS"
EVENTS_SUBJECT = "llmos.v1.events"
"""Every change of control state is published under `llmos.v1.events.<kind>`."""

_EXAMPLE_TIME = datetime.fromisoformat("2026-11-24T12:00:00+00:00")


Device = Literal["cpu", "cuda"]
"""What a replica computes on."""


class Resources(Contract):
    """What a replica is granted, or a node has."""

    memory: int = Field(ge=0)
    """Bytes."""
    threads: int = Field(ge=0)
    gpu_memory: int = Field(default=0, ge=0)
    """Bytes of one GPU's memory."""


class Gpu(Contract):
    """A GPU of a node that replicas may use."""

    id: str
    """Its UUID, as `CUDA_VISIBLE_DEVICES` takes it."""
    name: str = ""
    memory: int = Field(ge=0)
    """Bytes that replicas may use in all."""


class Deployment(Contract):
    """Desired state: what should run under a public name."""

    name: Name
    model: Name
    version: int
    digest: Digest
    task: Task = "generate"
    """Of the version's manifest: which API it answers."""
    replicas: int = Field(default=1, ge=0, le=1024)
    slots: int = Field(default=16, ge=1, le=1024)
    """Sequences that one replica runs at once."""
    max_len: int = Field(ge=1)
    """Tokens of prompt and answer together that a sequence may have."""
    resources: Resources
    """Of one replica. `threads` 0: none reserved, a replica runs with all threads of its node and shares them."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """`auto`: a GPU where one has room, else a CPU. The version has a graph for CUDA unless this is `cpu`."""
    gpu_resources: Resources | None = None
    """Of one replica that runs on a GPU; None with `device` `cpu`."""
    prefix_cache_bytes: int = Field(default=0, ge=0)
    """Keys and values of earlier prompts that one replica may keep; counted in `resources.memory`."""
    draft_tokens: int = Field(default=0, ge=0, le=MAX_DRAFT_TOKENS)
    """Tokens that a sequence may be computed ahead in one step."""
    generation: int = 1
    """Goes up with every change."""
    created_at: datetime


class NodeStatus(Contract):
    """A node as it reports itself."""

    id: Name
    capacity: Resources
    """What replicas may use in all."""
    gpus: tuple[Gpu, ...] = ()
    started_at: datetime
    instance: str = ""
    """Of the agent: another one with the same id is another process."""
    host: str = ""
    pid: int = 0


class ReplicaState(StrEnum):
    """Life of a replica, in order."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    """Died; the node agent starts it again with back-off. `message` says why."""


class ReplicaStatus(Contract):
    """A replica as its node agent sees it."""

    id: Name
    node: Name
    deployment: Name
    model: Name
    version: int
    state: ReplicaState
    message: str = ""
    restarts: int = 0
    slots: int
    max_len: int
    memory: int = 0
    """Bytes that its processes have resident now; 0: not told."""
    device: Device = "cpu"


class ReplicaAssignment(Contract):
    """One replica that a node should run."""

    id: Name
    deployment: Name
    model: Name
    version: int
    digest: Digest
    """Of the manifest; the node reads `manifests/<model>/<version>.json` and its blobs from the store."""
    slots: int
    max_len: int
    resources: Resources
    threads_reserved: bool = True
    """Whether no other replica may reserve these threads. False: it shares all threads of its node."""
    device: Device = "cpu"
    gpu: str = ""
    """The id of the node's GPU that it runs on; empty on a CPU."""
    prefix_cache_bytes: int = 0
    """Keys and values of earlier prompts that it may keep, within `resources.memory`; 0: none."""
    draft_tokens: int = 0
    """Tokens that a sequence may be computed ahead in one step."""


class NodeAssignment(Contract):
    """All that a node should run. What it runs besides this, it drains."""

    node: Name
    replicas: tuple[ReplicaAssignment, ...] = ()


class Leadership(Contract):
    """Which scheduler leads."""

    holder: str


class Deploy(Contract):
    """Run a version under a public name, or change what runs there. Idempotent."""

    reference: str
    name: Name | None = None
    """Default: the model's name."""
    replicas: int = Field(default=1, ge=1, le=1024)
    max_len: int | None = Field(default=None, ge=1)
    """Default: the model's context length, at most 4096."""
    slots: int = Field(default=16, ge=1, le=1024)
    threads: int | None = Field(default=None, ge=1)
    """Reserved for each replica, and allowed to wait for one another actively. Default: none reserved, each runs with
    all threads of its node and shares them."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: a GPU if the version has a graph for CUDA and a node has room on one, else a CPU."""
    prefix_cache: int | None = Field(default=None, ge=0)
    """Bytes that each replica's prefix cache may hold; 0: no cache. Default: a quarter of the memory for keys and
    values, at most 1 GiB."""
    draft_tokens: int = Field(default=DRAFT_TOKENS, ge=0, le=MAX_DRAFT_TOKENS)
    """Tokens that a sequence may be computed ahead in one step, where its text repeats itself and its numbers do not
    depend on it (a CPU with LLMOS's own operators); 0: none. It changes no answer."""


class DeploymentName(Contract):
    """One deployment."""

    name: str


class DeploymentStatus(Contract):
    """Desired and observed, side by side."""

    deployment: Deployment
    ready: int
    """Replicas that answer now."""
    replicas: tuple[ReplicaStatus, ...] = ()
    unplaced: tuple[str, ...] = ()
    """For each replica that has no node, why: `no node has 3.2 GiB free: node-a has 1.1 GiB`."""


class DeploymentList(Contract):
    """All deployments, by name."""

    deployments: tuple[DeploymentStatus, ...]


class NodeView(Contract):
    """A node with what is granted on it."""

    status: NodeStatus
    granted: Resources
    """Memory of all its replicas (`gpu_memory`: on all its GPUs), and the threads that are reserved."""
    replicas: tuple[str, ...] = ()


class NodeList(Contract):
    """All nodes whose lease holds."""

    nodes: tuple[NodeView, ...]


DEPLOY = Endpoint("llmos.v1.scheduler.deploy", Deploy, DeploymentStatus)
UNDEPLOY = Endpoint("llmos.v1.scheduler.undeploy", DeploymentName, Empty)
SHOW_DEPLOYMENT = Endpoint("llmos.v1.scheduler.show_deployment", DeploymentName, DeploymentStatus)
LIST_DEPLOYMENTS = Endpoint("llmos.v1.scheduler.list_deployments", Empty, DeploymentList)
LIST_NODES = Endpoint("llmos.v1.scheduler.list_nodes", Empty, NodeList)

Resources.EXAMPLE = Resources(memory=4 << 30, threads=2)
Gpu.EXAMPLE = Gpu(id="GPU-3f2a77b1-1c1e-4a1c-9c51-0a4c7e1a2b3c", name="NVIDIA L4", memory=23 << 30)
Deployment.EXAMPLE = Deployment(
    name="smollm2",
    model="smollm2",
    version=1,
    digest="cd" * 32,
    max_len=4096,
    resources=Resources.EXAMPLE,
    created_at=_EXAMPLE_TIME,
)
NodeStatus.EXAMPLE = NodeStatus(id="node-a", capacity=Resources.EXAMPLE, started_at=_EXAMPLE_TIME)
ReplicaStatus.EXAMPLE = ReplicaStatus(
    id="smollm2-1-x7k2",
    node="node-a",
    deployment="smollm2",
    model="smollm2",
    version=1,
    state=ReplicaState.READY,
    slots=16,
    max_len=4096,
)
ReplicaAssignment.EXAMPLE = ReplicaAssignment(
    id="smollm2-1-x7k2",
    deployment="smollm2",
    model="smollm2",
    version=1,
    digest="cd" * 32,
    slots=16,
    max_len=4096,
    resources=Resources.EXAMPLE,
)
NodeAssignment.EXAMPLE = NodeAssignment(node="node-a", replicas=(ReplicaAssignment.EXAMPLE,))
Leadership.EXAMPLE = Leadership(holder="scheduler-3f2a")
Deploy.EXAMPLE = Deploy(reference="smollm2@prod")
DeploymentName.EXAMPLE = DeploymentName(name="smollm2")
DeploymentStatus.EXAMPLE = DeploymentStatus(deployment=Deployment.EXAMPLE, ready=1, replicas=(ReplicaStatus.EXAMPLE,))
DeploymentList.EXAMPLE = DeploymentList(deployments=(DeploymentStatus.EXAMPLE,))
NodeView.EXAMPLE = NodeView(status=NodeStatus.EXAMPLE, granted=Resources.EXAMPLE, replicas=("smollm2-1-x7k2",))
NodeList.EXAMPLE = NodeList(nodes=(NodeView.EXAMPLE,))
