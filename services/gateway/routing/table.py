"""Chooses the replica that takes a request, from a table of deployments, replicas and load. Pure.

`services.gateway.routing.live_table` feeds the table; the clock is an argument.

A replica can be chosen when its lease says READY, it does not drain, its engine has not stalled, and its last load
report is younger than `LEASE_TTL_S`. Candidates are ordered by version (the deployment's own first), then free slots,
then work.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.contracts.load import EngineLoad, LoadReport
from shared.contracts.manifest import Task
from shared.contracts.scheduler import Deployment, ReplicaState, ReplicaStatus
from shared.deadlines import LEASE_TTL_S, LOAD_FRESH_S
from shared.errors import InvalidInput, ModelNotFound, Unavailable

SEQUENCE_TOKENS = 64
"""Prompt tokens of work that one running or waiting sequence counts for: its decode steps are work too."""
STARTING_RETRY_S = 2.0
"""What `Retry-After` says while a deployment's replicas start."""
FAILED_RETRY_S = 10.0
"""What `Retry-After` says when nothing is starting."""

_TASKS: Mapping[Task, str] = {
    "generate": "generates text",
    "embed": "makes embeddings, and no text",
    "classify": "classifies, and generates no text",
    "transcribe": "writes down speech",
    "tensor": "computes named tensors",
}
_ROUTES: Mapping[Task, str] = {
    "generate": "/v1/chat/completions, /v1/completions or /api/chat",
    "embed": "/v1/embeddings or /api/embed",
    "classify": "/v1/classify or /v1/rerank",
    "transcribe": "/v1/audio/transcriptions",
    "tensor": "/v2/models/{name}/infer",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that can take a request now."""

    replica_id: str
    model: str
    version: int


@dataclass(slots=True)
class _Load:
    """The last load report of one replica."""

    report: LoadReport
    at: float
    """Seconds on the local monotonic clock when the report arrived."""


@dataclass(slots=True)
class _Sent:
    """A request that this gateway sent, until a load report includes it."""

    tokens: int
    accepted: bool = False


@dataclass(slots=True)
class RoutingTable:
    """Deployments, replicas and their load, as this gateway sees them."""

    deployments: dict[str, Deployment] = field(default_factory=dict)
    replicas: dict[str, ReplicaStatus] = field(default_factory=dict)
    _loads: dict[str, _Load] = field(default_factory=dict)
    _sent: dict[str, dict[str, _Sent]] = field(default_factory=dict)

    # Events

    def set_deployments(self, deployments: Mapping[str, Deployment]) -> None:
        """Replace the deployments, by name."""
        self.deployments = dict(deployments)

    def set_replicas(self, replicas: Mapping[str, ReplicaStatus]) -> None:
        """Replace the replicas with a valid lease, by id."""
        self.replicas = dict(replicas)

    def report(self, report: LoadReport, now: float) -> None:
        """A load report arrived. It includes every request accepted before it: both travel on one connection."""
        self._loads[report.replica_id] = _Load(report, now)
        sent = self._sent.get(report.replica_id, {})
        for request_id in [request_id for request_id, entry in sent.items() if entry.accepted]:
            del sent[request_id]

    def sent(self, replica_id: str, request_id: str, tokens: int) -> None:
        """A request of about `tokens` prompt tokens is on its way to a replica."""
        self._sent.setdefault(replica_id, {})[request_id] = _Sent(tokens)

    def accepted(self, replica_id: str, request_id: str) -> None:
        """The replica took the request: its next report includes it."""
        if entry := self._sent.get(replica_id, {}).get(request_id):
            entry.accepted = True

    def finished(self, replica_id: str, request_id: str) -> None:
        """The request was rejected or is over."""
        self._sent.get(replica_id, {}).pop(request_id, None)

    def forget_silent(self, now: float, after: float) -> None:
        """Forget the load of replicas without a lease that have been silent for `after` seconds."""
        for replica_id in [replica_id for replica_id, load in self._loads.items() if now - load.at > after]:
            if replica_id not in self.replicas:
                del self._loads[replica_id]
                self._sent.pop(replica_id, None)

    # Choices

    def choose(
        self, name: str, now: float, *, of: tuple[str, int] | None = None, task: Task = "generate"
    ) -> list[Candidate]:
        """The replicas that can take a request for deployment `name`, best first.

        Args:
            name: The deployment's public name.
            now: Seconds on the local monotonic clock.
            of: Only replicas of this (model, version): a resumed generation needs the same weights.
            task: What the request needs.

        Raises:
            InvalidInput: The deployment does another task; the message names its routes.
            ModelNotFound: There is no such deployment; the message names those that exist.
            Unavailable: No replica is ready; the message says why.
        """
        deployment = self.deployments.get(name)
        if deployment is None:
            existing = ", ".join(sorted(self.deployments)) or "none is deployed yet (see `llmos deploy`)"
            raise ModelNotFound(f"the model {name!r:.200} does not exist; models: {existing}", param="model")
        if deployment.task != task:
            route = _ROUTES[deployment.task].format(name=name)
            raise InvalidInput(f"the model {name!r} {_TASKS[deployment.task]}; ask it at {route}", param="model")
        desired = (deployment.model, deployment.version)
        found = [
            status
            for status in self.replicas.values()
            if status.deployment == name
            and (of is None or (status.model, status.version) == of)
            and self._why_not(status, now) is None
        ]
        if not found:
            raise self._unavailable(deployment, now, of)
        ordered = sorted(
            found,
            key=lambda status: (
                (status.model, status.version) != desired,
                now - self._loads[status.id].at > LOAD_FRESH_S,
                self._free_slots(status) <= 0,
                self._outstanding(status),
                status.id,
            ),
        )
        return [Candidate(status.id, status.model, status.version) for status in ordered]

    def loads(self, now: float) -> list[LoadReport]:
        """The reports of all replicas that are not silent, by id."""
        live = [load.report for load in self._loads.values() if now - load.at <= LEASE_TTL_S]
        return sorted(live, key=lambda report: report.replica_id)

    def chars_per_token(self, name: str) -> int:
        """Characters of text that one token stands for, at most, with any replica of a deployment; 0: not known."""
        figures = [
            status.chars_per_token
            for status in self.replicas.values()
            if status.deployment == name and status.state is ReplicaState.READY
        ]
        return max(figures, default=0) if all(figures) else 0

    def ready(self, name: str, now: float) -> int:
        """How many replicas of a deployment can take a request."""
        return sum(
            status.deployment == name and self._why_not(status, now) is None for status in self.replicas.values()
        )

    def _why_not(self, status: ReplicaStatus, now: float) -> str | None:
        where = f"{status.id} on {status.node}"
        if status.state is ReplicaState.FAILED:
            return f"{where} failed: {status.message or 'no reason given'}"
        if status.state is not ReplicaState.READY:
            return f"{where} is {status.state}{': ' + status.message if status.message else ''}"
        load = self._loads.get(status.id)
        if load is None:
            return f"{where} has not reported its load yet"
        if now - load.at > LEASE_TTL_S:
            return f"{where} has been silent for {now - load.at:.0f} s"
        return _why_not_by_its_load(load.report.load, where)

    def _unavailable(self, deployment: Deployment, now: float, of: tuple[str, int] | None) -> Unavailable:
        statuses = sorted(
            (
                status
                for status in self.replicas.values()
                if status.deployment == deployment.name and (of is None or (status.model, status.version) == of)
            ),
            key=lambda status: status.id,
        )
        reasons = [reason for status in statuses if (reason := self._why_not(status, now))]
        if not statuses:  # their leases have just expired, and their agent has not said why yet
            reasons = [
                f"{replica_id} has been silent for {now - load.at:.0f} s"
                for replica_id, load in sorted(self._loads.items())
                if load.report.deployment == deployment.name
                and (of is None or (load.report.model, load.report.version) == of)
            ]
        if deployment.replicas == 0:
            why = "it is scaled to 0 replicas"
        elif reasons:
            why = "; ".join(reasons)
        elif of is not None:
            why = f"no replica of {of[0]}:{of[1]} is left"
        else:
            why = "no replica is placed on a node yet (see `llmos deployments`)"
        starting = not statuses or any(status.state is not ReplicaState.FAILED for status in statuses)
        return Unavailable(
            f"the model {deployment.name!r} has no replica that is ready: {why}",
            retry_after=STARTING_RETRY_S if starting and deployment.replicas else FAILED_RETRY_S,
        )

    def _unreported(self, replica_id: str) -> list[_Sent]:
        return list(self._sent.get(replica_id, {}).values())

    def _outstanding(self, status: ReplicaStatus) -> int:
        """Tokens of work before a new request would be computed."""
        load = self._loads[status.id].report.load
        unreported = self._unreported(status.id)
        sequences = load.running + load.waiting + len(unreported)
        return load.queued_tokens + sum(entry.tokens for entry in unreported) + SEQUENCE_TOKENS * sequences

    def _free_slots(self, status: ReplicaStatus) -> int:
        load = self._loads[status.id].report.load
        return load.free_slots - load.waiting - len(self._unreported(status.id))


def _why_not_by_its_load(load: EngineLoad, where: str) -> str | None:
    if load.draining:
        return f"{where} is draining"
    if load.stalled_s:
        return f"{where} has stalled: no step for {load.stalled_s:.0f} s"
    return None
