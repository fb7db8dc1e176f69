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

from pydantic import AliasChoices, ConfigDict, Field

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.job import JobAssignment, JobKind
from shared.contracts.manifest import Digest, Name, Task
from shared.contracts.origin import Origin
from shared.contracts.resources import Resources
from shared.contracts.serving import Device, ReplicaOptions, ServingOptions

DEPLOYMENTS_BUCKET = "LLMOS_DEPLOYMENTS"
NODES_BUCKET = "LLMOS_NODES"
REPLICAS_BUCKET = "LLMOS_REPLICAS"
ASSIGNMENTS_BUCKET = "LLMOS_ASSIGNMENTS"
LEASES_BUCKET = "LLMOS_LEASES"

MAX_REPLICAS = 1024
"""Of one deployment."""

_EXAMPLE_TIME = datetime.fromisoformat("2026-11-24T12:00:00+00:00")


class Gpu(Contract):
    """A GPU of a node that replicas may use."""

    id: str
    """Its UUID, as `CUDA_VISIBLE_DEVICES` takes it."""
    name: str = ""
    memory: int = Field(ge=0)
    """Bytes that replicas may use in all."""


class Deployment(Contract):
    """Desired state: what should run under a public name."""

    model_config = ConfigDict(populate_by_name=True)

    name: Name
    model: Name
    version: int
    digest: Digest
    task: Task = "generate"
    """Of the version's manifest: which API it answers."""
    replicas: int = Field(default=1, ge=0, le=MAX_REPLICAS)
    options: ReplicaOptions
    """Of each replica. The version has a graph for CUDA unless `device` is `cpu`."""
    asked: ServingOptions | None = None
    """The options that were named, now or before; the others of `options` are defaults for this version. None in
    records from before this was kept: then all count as named."""
    resources: Resources
    """Of one replica that runs on a CPU. `threads` 0: none reserved, it shares all threads of its node."""
    gpu_resources: Resources | None = None
    """Of one replica that runs on a GPU; None with `device` `cpu`."""
    revision: int = Field(default=1, validation_alias=AliasChoices("revision", "generation"))
    """Goes up with every change."""
    created_at: datetime
    changed_by: str = ""
    """Who made this revision: the id of an API key, or of a job."""
    origin: Origin | None = None
    """The request that made this revision."""
    previous: "Deployment | None" = None
    """The revision before this one; it has no previous one itself."""


class NodeStatus(Contract):
    """A node as it reports itself."""

    id: Name
    capacity: Resources
    """What replicas may use in all."""
    gpus: tuple[Gpu, ...] = ()
    lacking: dict[JobKind, str] = Field(default_factory=dict)
    """Kinds of jobs that can't run here, and what is missing for each."""
    started_at: datetime
    instance: str = ""
    """Of the agent: another one with the same id is another process."""
    claim: int = 0
    """The revision of the bucket at which this agent took the node id: of two agents the later one has the higher.
    0 in the record that takes it."""
    host: str = ""
    pid: int = 0
    training_address: str = "127.0.0.1"
    """The IP address at which other nodes reach a training on this one; of loopback, only nodes of one machine do."""
    loopback: str = ""
    """Equal for nodes that share a loopback interface; empty: not known."""
    birth: str = ""
    """Of the agent's process; distinguishes it from others that get its pid (`shared.service.process_identity`)."""


class ReplicaState(StrEnum):
    """Life of a replica, in order."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    STALLED = "stalled"
    """Was ready; has work, and its engine completes no step. It becomes ready again, or its agent restarts it."""
    UNRESPONSIVE = "unresponsive"
    """Was ready; gives no sign of life: its process is stopped, or its event loop hangs. Its agent says so in its
    place. It becomes ready again, or its agent restarts it."""
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
    options: ReplicaOptions
    memory: int = 0
    """Bytes that its processes have resident now; 0: not measured yet."""
    chars_per_token: int = Field(default=0, ge=0)
    """Characters of text that one token of its model stands for, at most; 0: not known, as before it is loaded."""
    device: Device = "cpu"
    """What it computes on."""


class ReplicaAssignment(Contract):
    """One replica that a node should run."""

    id: Name
    deployment: Name
    model: Name
    version: int
    digest: Digest
    """Of the manifest; the node reads `manifests/<model>/<version>.json` and its blobs from the store."""
    options: ReplicaOptions
    resources: Resources
    device: Device = "cpu"
    """What it computes on; `options.device` has what was asked for."""
    gpu: str = ""
    """The id of the node's GPU that it runs on; empty on a CPU."""
    origin: Origin | None = None
    """The request that made the revision of the deployment for which it was placed."""

    @property
    def threads_reserved(self) -> bool:
        """Whether no other replica may reserve its threads. False: it shares all threads of its node."""
        return self.options.threads > 0

    def status(self, node: str, state: ReplicaState, message: str = "", *, restarts: int = 0) -> ReplicaStatus:
        """The status of this replica on a node."""
        return ReplicaStatus(
            id=self.id,
            node=node,
            deployment=self.deployment,
            model=self.model,
            version=self.version,
            state=state,
            message=message,
            restarts=restarts,
            options=self.options,
            device=self.device,
        )


class NodeAssignment(Contract):
    """All replicas and jobs that a node should run; it drains and stops every other one."""

    node: Name
    replicas: tuple[ReplicaAssignment, ...] = ()
    jobs: tuple[JobAssignment, ...] = ()


class Leadership(Contract):
    """Which scheduler leads."""

    holder: str


class Deploy(ServingOptions):
    """Run a version under a public name, or change what runs there. Idempotent."""

    reference: str
    """name, name:3 or name@alias."""
    name: Name | None = None
    """Public name. Default: the model's."""
    replicas: int | None = Field(default=None, ge=0, le=MAX_REPLICAS)
    """Processes that serve it; 0 pauses it. None: as many as before, or 1."""
    reset: bool = False
    """Whether what is not named becomes the default. False: it stays as it is."""
    if_revision: int | None = Field(default=None, ge=0)
    """Refused with `Conflict` unless the deployment has this revision now; 0: unless there is none."""
    allow_unplaced: bool = False
    """Whether replicas that fit on no node, even alone, may wait for one. False: the request is refused."""
    dry_run: bool = False
    """Whether only to answer what would be: nothing changes."""
    by: str = ""
    """Who asks; the gateway sets it."""


class Rollback(Contract):
    """Bring back the previous revision of a deployment, whole."""

    name: str
    if_revision: int | None = Field(default=None, ge=1)
    """As in `Deploy`."""
    by: str = ""


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
    note: str = ""
    """Of what `deploy` chose: that no node has room for the default number of slots, and what it got instead."""


class DeploymentList(Contract):
    """All deployments, by name."""

    deployments: tuple[DeploymentStatus, ...]


class NodeView(Contract):
    """A node with what is granted on it."""

    status: NodeStatus
    granted: Resources
    """Memory of all its replicas and jobs (`gpu_memory`: on all its GPUs), and the threads that are reserved."""
    replicas: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


class NodeList(Contract):
    """All nodes whose lease holds."""

    nodes: tuple[NodeView, ...]


DEPLOY = Endpoint("llmos.v1.scheduler.deploy", Deploy, DeploymentStatus)
ROLLBACK = Endpoint("llmos.v1.scheduler.rollback", Rollback, DeploymentStatus)
UNDEPLOY = Endpoint("llmos.v1.scheduler.undeploy", DeploymentName, Empty)
SHOW_DEPLOYMENT = Endpoint("llmos.v1.scheduler.show_deployment", DeploymentName, DeploymentStatus)
LIST_DEPLOYMENTS = Endpoint("llmos.v1.scheduler.list_deployments", Empty, DeploymentList)
LIST_NODES = Endpoint("llmos.v1.scheduler.list_nodes", Empty, NodeList)

assert Resources.EXAMPLE is not None
Gpu.EXAMPLE = Gpu(id="GPU-3f2a77b1-1c1e-4a1c-9c51-0a4c7e1a2b3c", name="NVIDIA L4", memory=23 << 30)
assert ReplicaOptions.EXAMPLE is not None
Deployment.EXAMPLE = Deployment(
    name="smollm2",
    model="smollm2",
    version=1,
    digest="cd" * 32,
    options=ReplicaOptions.EXAMPLE,
    resources=Resources.EXAMPLE,
    created_at=_EXAMPLE_TIME,
)
NodeStatus.EXAMPLE = NodeStatus(id="node-a", capacity=Resources.EXAMPLE, started_at=_EXAMPLE_TIME)
ReplicaAssignment.EXAMPLE = ReplicaAssignment(
    id="smollm2-1-x7k2",
    deployment="smollm2",
    model="smollm2",
    version=1,
    digest="cd" * 32,
    options=ReplicaOptions.EXAMPLE,
    resources=Resources.EXAMPLE,
)
ReplicaStatus.EXAMPLE = ReplicaAssignment.EXAMPLE.status("node-a", ReplicaState.READY)
NodeAssignment.EXAMPLE = NodeAssignment(node="node-a", replicas=(ReplicaAssignment.EXAMPLE,))
Leadership.EXAMPLE = Leadership(holder="scheduler-3f2a")
Deploy.EXAMPLE = Deploy(reference="smollm2@prod")
Rollback.EXAMPLE = Rollback(name="smollm2")
DeploymentName.EXAMPLE = DeploymentName(name="smollm2")
DeploymentStatus.EXAMPLE = DeploymentStatus(deployment=Deployment.EXAMPLE, ready=1, replicas=(ReplicaStatus.EXAMPLE,))
DeploymentList.EXAMPLE = DeploymentList(deployments=(DeploymentStatus.EXAMPLE,))
NodeView.EXAMPLE = NodeView(status=NodeStatus.EXAMPLE, granted=Resources.EXAMPLE, replicas=("smollm2-1-x7k2",))
NodeList.EXAMPLE = NodeList(nodes=(NodeView.EXAMPLE,))
