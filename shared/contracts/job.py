"""Jobs: finite work on nodes. Their records, the messages of a job's process, and the scheduler's endpoints.

| KV bucket | key | record | written by |
|---|---|---|---|
| `LLMOS_JOBS` | job id | `Job` | scheduler |
| `LLMOS_JOB_RUNS` | `JobRun.key` | `JobRun` (lease) | node agent |

A job that runs on several nodes has all of them or none. The first of them leads: its process saves checkpoints,
reports progress and hands over the result.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.dataset import DatasetManifest
from shared.contracts.fine_tuning import FineTuning
from shared.contracts.manifest import Digest, Kind, Manifest, ManifestFile, Name
from shared.contracts.report import ReportManifest
from shared.contracts.resources import Resources

JOBS_BUCKET = "LLMOS_JOBS"
JOB_RUNS_BUCKET = "LLMOS_JOB_RUNS"
JOB_EVENTS_STREAM = "LLMOS_JOB_EVENTS"
JOB_EVENTS_SUBJECT = "llmos.v1.job_events"
JOB_EVENTS_MAX_BYTES = 128 << 20
JOB_EVENTS_MAX_AGE_S = 90 * 24 * 3600.0
"""Bounds of the stream; the oldest events are removed first."""

MAX_NODES = 64
"""That run one job together."""

STOPPED_EXIT_CODE = 75
"""A job's process ends with this code when it was asked to stop and can go on later (EX_TEMPFAIL of sysexits.h)."""
REFUSED_EXIT_CODE = 65
"""A job's process ends with this code when its input is wrong: trying again would change nothing (EX_DATAERR)."""


class JobState(StrEnum):
    """Life of a job; `services.scheduler.policy.job_rules` has the transitions."""

    QUEUED = "queued"
    """Waits for room on its nodes; `message` says why."""
    STARTING = "starting"
    """Has its nodes; not all of its processes have reported yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    """Its processes were asked to save a checkpoint and to end."""
    PAUSED = "paused"
    """Stopped by a person; goes on when it is resumed."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether nothing will happen to the job unless a person asks for it."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}

    @property
    def on_node(self) -> bool:
        """Whether the job has resources of nodes."""
        return self in {JobState.STARTING, JobState.RUNNING, JobState.STOPPING}


class Desired(StrEnum):
    """What a person asked for last."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


LACKING_OPTION = "--lacking"
"""The job command, with this in place of a folder, prints a JSON object: kinds of jobs that it can't do, and why."""

JobKind = Literal["train", "search", "evaluate", "prepare", "run"]


class Input(Contract):
    """A version that a job reads, pinned by digest when the job is made."""

    kind: Kind
    name: Name
    version: int
    digest: Digest

    @property
    def reference(self) -> str:
        """`name:3`."""
        return f"{self.name}:{self.version}"


class Progress(Contract):
    """How far a job is."""

    step: int = Field(default=0, ge=0)
    steps: int = Field(default=0, ge=0)
    """Of the whole job; 0: not known."""
    eta_s: float | None = Field(default=None, ge=0)
    """Seconds that are left, as estimated."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """The newest value of each: `loss`, `val_loss`, `tokens_per_second`, `memory`, and `trained_tokens`, the tokens
    that all steps so far have learnt."""


class Checkpoint(Contract):
    """What a job's process saved, in the store: another node can go on from it."""

    step: int = Field(ge=0)
    files: tuple[ManifestFile, ...]


class Upload(Contract):
    """A file of rows as a client uploaded it: the job turns it into a version of a dataset first."""

    file: ManifestFile
    """Its path is the file's id; the bytes are in the store."""
    name: str
    """As the client called it, for messages."""
    split: Literal["train", "validation"] = "train"
    """Which rows of the dataset it becomes."""

    @property
    def file_name(self) -> str:
        """Of the file in the job's folder; messages about its lines begin with it."""
        name = re.sub(r"[^\w. -]", "_", self.name.rsplit("/", 1)[-1]).lstrip(".")
        return name if name.lower().endswith(".jsonl") else f"{name or 'rows'}.jsonl"


class Work(Contract):
    """What a job does, but for its inputs: the same in the request for a job and in its record."""

    kind: JobKind
    """`run` starts `command`; the others run a tool of `devtools`."""
    recipe: str = Field(default="", max_length=256 * 1024)
    """TOML: all that the tool is told."""
    command: tuple[str, ...] = ()
    """The program and its arguments, of a job of kind `run`."""
    result: Kind | None = None
    """What the job makes."""
    result_name: Name | None = None
    """The name that the result becomes a version of."""
    uploads: tuple[Upload, ...] = ()
    """Instead of `datasets`. The job makes a version of the dataset `result_name` of them, and then uses that."""
    node_count: int = Field(default=1, ge=1, le=MAX_NODES)
    """Nodes that run it together; only trainings run on more than one. The recipe says the same (`[job] nodes`)."""
    deploy: Name | None = None
    """The public name under which the model that it makes is deployed when it has succeeded. A request is refused
    with `Conflict` while a deployment or a job has it."""


class JobSpec(Work):
    """What a job does."""

    base: Input | None = None
    """The version of a model that it starts from, or that it evaluates."""
    teacher: Input | None = None
    """The version of a model that the result learns from, with method `distil`."""
    datasets: tuple[Input, ...] = ()


class DeployState(StrEnum):
    """How far the result of a job that succeeded is deployed."""

    PENDING = "pending"
    """The deployment is not made yet."""
    STARTING = "starting"
    """It is made, and its replica is on the way."""
    WAITING = "waiting"
    """Its replica has no node, or fails; `message` says why. It goes on by itself when that is mended."""
    READY = "ready"
    """A replica answered. What happens to the deployment from now on is not the job's business."""
    FAILED = "failed"
    """It can't be deployed; `message` says why."""

    @property
    def settled(self) -> bool:
        """Whether the scheduler has nothing more to do."""
        return self in {DeployState.READY, DeployState.FAILED}


class Job(Contract):
    """A job: what was asked for, and what is known of it."""

    id: Name
    spec: JobSpec
    request_id: str = ""
    """Of the request that made it: the same request again makes no second job."""
    owner: str = ""
    """The id of the API key that asked for it."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Among jobs that wait, higher first; deployments always come before jobs."""
    resources: Resources
    """Of each node. `threads` 0: it shares those that no replica reserved."""
    retries: int = Field(default=2, ge=0, le=100)
    """How often it is started again after its process failed. The loss of a node does not count."""
    desired: Desired = Desired.RUN
    state: JobState = JobState.QUEUED
    message: str = ""
    nodes: tuple[Name, ...] = ()
    """Where it runs: all `spec.node_count` nodes, or none. The first leads."""
    rendezvous: str = ""
    """`host:port` at which the first node's process waits for those of the others; empty before it waits."""
    broken: str = ""
    """Why the other nodes are stopped, after one of several has failed or was lost."""
    attempt: int = Field(default=0, ge=0)
    """Goes up with every start of a process; a run with another number is of an earlier start."""
    failures: int = Field(default=0, ge=0)
    preemptions: int = Field(default=0, ge=0)
    progress: Progress = Progress()
    """In the record, as it was when the job left its nodes; in an answer of the scheduler, as it is."""
    checkpoint: Checkpoint | None = None
    results: tuple[str, ...] = ()
    """`model helper:1`."""
    deployed: DeployState | None = None
    """Set when it has succeeded, if `spec.deploy` is."""
    fine_tuning: FineTuning | None = None
    """Of a job of OpenAI's fine-tuning API: what was asked for."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def needed_files(self) -> tuple[ManifestFile, ...]:
        """What it may still read in the store: a checkpoint to go on from, and uploads; nothing once it is over."""
        if self.state in {JobState.SUCCEEDED, JobState.CANCELLED}:
            return ()
        saved = self.checkpoint.files if self.checkpoint is not None else ()
        return (*saved, *(upload.file for upload in self.spec.uploads))


class RunState(StrEnum):
    """Life of a job's process."""

    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


class JobRun(Contract):
    """A job's process on one node, as the node's agent sees it; a lease."""

    id: Name
    """Of the job."""
    node: Name
    attempt: int
    state: RunState
    rendezvous: str = ""
    """Of the first of several nodes: where its process waits for those of the others."""
    exit_code: int | None = None
    """Negative: killed by that signal."""
    message: str = ""
    """Why it failed."""
    progress: Progress = Progress()
    checkpoint: Checkpoint | None = None
    results: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """In the bucket: each node of a job has a run of its own."""
        return run_key(self.id, self.node)


def run_key(job: str, node: str) -> str:
    """The key of the run of a job on a node."""
    return f"{job}/{node}"


class JobAssignment(Contract):
    """A job that a node should run; a node stops every other one at once."""

    id: Name
    spec: JobSpec
    attempt: int
    rank: int = Field(default=0, ge=0)
    """Of the node among those of the job; the first has 0 and leads."""
    rendezvous: str = ""
    """Where the first node's process waits; a node of a higher rank starts when it is known."""
    resources: Resources
    checkpoint: Checkpoint | None = None
    """To go on from, where the node does not have a newer one."""
    stop: Literal["no", "checkpoint", "now"] = "no"
    """`checkpoint`: save one and end. `now`: end, what was not saved is lost."""


EventKind = Literal["state", "progress", "checkpoint", "result", "log"]


class JobEvent(Contract):
    """What happened in a job, in the stream `LLMOS_JOB_EVENTS`."""

    job: Name
    kind: EventKind
    message: str
    at: datetime
    progress: Progress | None = None
    """Of `progress`, and of `checkpoint`: as it was then."""


def job_events_subject(job: str) -> str:
    """Where the events of a job are published. A dot in its id makes a token more."""
    return f"{JOB_EVENTS_SUBJECT}.{job}"


# --- What a job's process says: JSON lines on its standard output. Other lines are its log. ---


class NewVersion(Contract):
    """A version that the job made; its files are in the store, its node agent makes it a version."""

    name: Name
    manifest: Annotated[Manifest | DatasetManifest | ReportManifest, Field(union_mode="left_to_right")]
    kind: Kind


class ProcessMessage(Contract):
    """One line: exactly one of the fields."""

    progress: Progress | None = None
    checkpoint: Checkpoint | None = None
    result: NewVersion | None = None
    rendezvous: str | None = None
    """`host:port` at which it waits for the processes of the job's other nodes."""
    failure: str | None = None
    """In one sentence, for the user, right before the process ends with another code than 0."""


# --- Endpoints of the scheduler ---


class CreateJob(Work):
    """Queue a job."""

    base: str | None = None
    """name, name:3 or name@alias of a model; pinned to the version that it means now."""
    teacher: str | None = None
    """Of a model; pinned too."""
    datasets: tuple[str, ...] = ()
    """References of datasets; pinned too."""
    fine_tuning: FineTuning | None = None
    resources: Resources
    priority: int = Field(default=0, ge=-100, le=100)
    retries: int = Field(default=2, ge=0, le=100)
    owner: str = ""
    request_id: Annotated[str, StringConstraints(max_length=128)] = ""
    """The same id again answers the job that exists."""
    id: Name | None = None
    """Of the new job; None: the scheduler draws one. Refused with `Conflict` if there is such a job."""


class JobName(Contract):
    """One job."""

    id: str


class ChangeJob(Contract):
    """Ask for another course: pause, go on, cancel. Idempotent."""

    id: str
    desired: Desired


class JobList(Contract):
    """All jobs, the newest first."""

    jobs: tuple[Job, ...]


CREATE_JOB = Endpoint("llmos.v1.scheduler.create_job", CreateJob, Job)
SHOW_JOB = Endpoint("llmos.v1.scheduler.show_job", JobName, Job)
LIST_JOBS = Endpoint("llmos.v1.scheduler.list_jobs", Empty, JobList)
CHANGE_JOB = Endpoint("llmos.v1.scheduler.change_job", ChangeJob, Job)
DELETE_JOB = Endpoint("llmos.v1.scheduler.delete_job", JobName, Empty)

_EXAMPLE_TIME = datetime.fromisoformat("2026-11-29T12:00:00+00:00")
assert Resources.EXAMPLE is not None
assert Manifest.EXAMPLE is not None
Input.EXAMPLE = Input(kind=Kind.DATASET, name="support", version=2, digest="cd" * 32)
Progress.EXAMPLE = Progress(step=20, steps=40, eta_s=31.5, metrics={"loss": 0.42})
Checkpoint.EXAMPLE = Checkpoint(
    step=20, files=(ManifestFile(path="step-000020/state.safetensors", digest="ab" * 32, size=4096),)
)
Upload.EXAMPLE = Upload(
    file=ManifestFile(path="file-3f2a77b11c1e4a1c9c510a4c", digest="ab" * 32, size=4096), name="chats.jsonl"
)
Work.EXAMPLE = Work(kind="train", recipe='method = "sft"\n', result=Kind.MODEL, result_name="helper")
JobSpec.EXAMPLE = JobSpec(
    kind="train",
    base=Input(kind=Kind.MODEL, name="smollm2", version=1, digest="cd" * 32),
    datasets=(Input.EXAMPLE,),
    recipe='method = "sft"\n',
    result=Kind.MODEL,
    result_name="helper",
)
Job.EXAMPLE = Job(
    id="train-x7k2qa",
    spec=JobSpec.EXAMPLE,
    resources=Resources.EXAMPLE,
    state=JobState.RUNNING,
    nodes=("node-a",),
    attempt=1,
    progress=Progress.EXAMPLE,
    created_at=_EXAMPLE_TIME,
    started_at=_EXAMPLE_TIME,
)
JobRun.EXAMPLE = JobRun(
    id="train-x7k2qa", node="node-a", attempt=1, state=RunState.RUNNING, progress=Progress.EXAMPLE
)
JobAssignment.EXAMPLE = JobAssignment(
    id="train-x7k2qa", spec=JobSpec.EXAMPLE, attempt=1, resources=Resources.EXAMPLE, checkpoint=Checkpoint.EXAMPLE
)
JobEvent.EXAMPLE = JobEvent(
    job="train-x7k2qa", kind="progress", message="step 20 of 40", at=_EXAMPLE_TIME, progress=Progress.EXAMPLE
)
NewVersion.EXAMPLE = NewVersion(name="helper", kind=Kind.MODEL, manifest=Manifest.EXAMPLE)
ProcessMessage.EXAMPLE = ProcessMessage(progress=Progress.EXAMPLE)
CreateJob.EXAMPLE = CreateJob(
    kind="train",
    base="smollm2@prod",
    datasets=("support:2",),
    recipe='method = "sft"\n',
    result=Kind.MODEL,
    result_name="helper",
    resources=Resources.EXAMPLE,
)
JobName.EXAMPLE = JobName(id="train-x7k2qa")
ChangeJob.EXAMPLE = ChangeJob(id="train-x7k2qa", desired=Desired.PAUSE)
JobList.EXAMPLE = JobList(jobs=(Job.EXAMPLE,))
