"""Which replica takes a request: a pure table of what is known, and the choice from it.

`services.gateway.routing.live_table` feeds the table; the clock is an argument.

A replica can be chosen when its lease says READY, it does not drain, and its last load report is younger than
`LEASE_TTL_S`. Candidates are ordered by version (the deployment's own first), then free slots, then work.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.contracts.load import LOAD_REPORT_S, LoadReport
from shared.contracts.manifest import Task
from shared.contracts.scheduler import LEASE_TTL_S, Deployment, ReplicaState, ReplicaStatus
from shared.errors import InvalidInput, NotFound, Unavailable

SEQUENCE_TOKENS = 64
"""Prompt tokens of work that one running or waiting sequence counts for: its decode steps are work too."""
STARTING_RETRY_S = 2.0
"""What `Retry-After` says while a deployment's replicas start."""
FAILED_RETRY_S = 10.0
"""What `Retry-After` says when nothing is starting."""
FRESH_S = 3 * LOAD_REPORT_S
"""A replica that reported within this time lives, even when its lease could not be renewed."""

_DOES: Mapping[Task, str] = {
    "generate": "generates text",
    "embed": "makes embeddings, and no text",
    "classify": "classifies, and generates no text",
}
_ROUTES: Mapping[Task, str] = {
    "generate": "/v1/chat/completions or /v1/completions",
    "embed": "/v1/embeddings",
    "classify": "/v1/classify or /v1/rerank",
}
_UP = (ReplicaState.READY, ReplicaState.DRAINING)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that can take a request now, with what must be remembered to notice its loss."""

    replica_id: str
    model: str
    version: int
    incarnation: int
    outstanding: int
    """Tokens of work before a new request would be computed."""


@dataclass(slots=True)
class _Known:
    """What is known of one replica's load."""

    report: LoadReport
    at: float
    """Seconds on the local monotonic clock when the report arrived."""
    idle_reports: int = 0
    """Reports in a row that say that nothing runs and nothing waits."""


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
    _loads: dict[str, _Known] = field(default_factory=dict)
    _sent: dict[str, dict[str, _Sent]] = field(default_factory=dict)
    _incarnations: dict[str, int] = field(default_factory=dict)

    # What happened

    def set_deployments(self, deployments: Mapping[str, Deployment]) -> None:
        """Replace the deployments, by name."""
        self.deployments = dict(deployments)

    def set_replicas(self, replicas: Mapping[str, ReplicaStatus]) -> None:
        """Replace the replicas whose lease holds, by id; one that left READY counts as another incarnation."""
        for replica_id, before in self.replicas.items():
            after = replicas.get(replica_id)
            restarted = after is not None and after.restarts != before.restarts
            went_down = before.state in _UP and after is not None and after.state not in _UP
            if restarted or went_down:
                self._bump(replica_id)
        self.replicas = dict(replicas)

    def report(self, report: LoadReport, now: float) -> None:
        """A load report arrived. It includes every request accepted before it: both travel on one connection."""
        before = self._loads.get(report.replica_id)
        idle = report.load.running == 0 and report.load.waiting == 0
        known = _Known(report, now, 1 if idle else 0)
        if before is not None:
            if report.load.counters.steps < before.report.load.counters.steps:
                self._bump(report.replica_id)
            elif idle:
                known.idle_reports += before.idle_reports
        self._loads[report.replica_id] = known
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
        if known := self._loads.get(replica_id):
            known.idle_reports = 0

    def finished(self, replica_id: str, request_id: str) -> None:
        """The request was rejected or is over."""
        self._sent.get(replica_id, {}).pop(request_id, None)

    def forget_silent(self, now: float, after: float = 60.0) -> None:
        """Forget the load of replicas silent for `after` seconds, so that a table does not grow for ever."""
        for replica_id in [replica_id for replica_id, known in self._loads.items() if now - known.at > after]:
            if replica_id not in self.replicas:
                del self._loads[replica_id]
                self._sent.pop(replica_id, None)
                self._incarnations.pop(replica_id, None)

    # What follows

    def choose(
        self, name: str, now: float, *, of: tuple[str, int] | None = None, task: Task = "generate"
    ) -> list[Candidate]:
        """The replicas that can take a request for deployment `name`, best first.

        Args:
            name: The deployment's public name.
            now: Seconds on the local monotonic clock.
            of: Only replicas of this (model, version): a resumed answer must go on with the same weights.
            task: What the request asks for.

        Raises:
            InvalidInput: The deployment does another task; the message names the routes that it answers.
            NotFound: There is no such deployment; the message names those that exist.
            Unavailable: It has no replica that can answer; the message says why.
        """
        deployment = self.deployments.get(name)
        if deployment is None:
            existing = ", ".join(sorted(self.deployments)) or "none is deployed yet (see `llmos deploy`)"
            raise NotFound(f"the model {name!r} does not exist; models: {existing}", param="model")
        if deployment.task != task:
            raise InvalidInput(
                f"the model {name!r} {_DOES[deployment.task]}; ask it at {_ROUTES[deployment.task]}", param="model"
            )
        wanted = (deployment.model, deployment.version)
        found = [
            status
            for status in self.replicas.values()
            if status.deployment == name
            and (of is None or (status.model, status.version) == of)
            and self._why_not(status, now) is None
        ]
        if not found:
            raise self._nobody(deployment, now, of)
        ordered = sorted(
            found,
            key=lambda status: (
                (status.model, status.version) != wanted,
                self._free_slots(status) <= 0,
                self._outstanding(status),
                status.id,
            ),
        )
        return [
            Candidate(status.id, status.model, status.version, self.incarnation(status.id), self._outstanding(status))
            for status in ordered
        ]

    def lost(self, candidate: Candidate, now: float) -> str | None:
        """Why a replica that has a request of ours is taken for gone, or None while it lives."""
        status = self.replicas.get(candidate.replica_id)
        if status is not None and status.state not in _UP:
            return f"it is {status.state}{': ' + status.message if status.message else ''}"
        if self.incarnation(candidate.replica_id) != candidate.incarnation:
            return "it was restarted"
        known = self._loads.get(candidate.replica_id)
        silent = now - known.at if known else LEASE_TTL_S + 1
        if silent > LEASE_TTL_S:
            return f"it was silent for {LEASE_TTL_S:g} s"
        if status is None and silent > FRESH_S:
            return "its lease is gone"
        return None

    def idle_reports(self, replica_id: str) -> int:
        """Load reports in a row, since the last request was accepted, that say the replica has nothing to do."""
        known = self._loads.get(replica_id)
        return known.idle_reports if known else 0

    def incarnation(self, replica_id: str) -> int:
        """Goes up whenever a replica was seen to have restarted."""
        return self._incarnations.get(replica_id, 0)

    def loads(self, now: float) -> list[LoadReport]:
        """The reports of all replicas that are not silent, by id."""
        live = [known.report for known in self._loads.values() if now - known.at <= LEASE_TTL_S]
        return sorted(live, key=lambda report: report.replica_id)

    def ready(self, name: str, now: float) -> int:
        """How many replicas of a deployment can take a request."""
        return sum(
            status.deployment == name and self._why_not(status, now) is None for status in self.replicas.values()
        )

    def _bump(self, replica_id: str) -> None:
        self._incarnations[replica_id] = self.incarnation(replica_id) + 1

    def _why_not(self, status: ReplicaStatus, now: float) -> str | None:
        where = f"{status.id} on {status.node}"
        if status.state is ReplicaState.FAILED:
            return f"{where} failed: {status.message or 'no reason given'}"
        if status.state is not ReplicaState.READY:
            return f"{where} is {status.state}{': ' + status.message if status.message else ''}"
        known = self._loads.get(status.id)
        if known is None:
            return f"{where} has not reported its load yet"
        if now - known.at > LEASE_TTL_S:
            return f"{where} was silent for {LEASE_TTL_S:g} s"
        if known.report.load.draining:
            return f"{where} is draining"
        return None

    def _nobody(self, deployment: Deployment, now: float, of: tuple[str, int] | None) -> Unavailable:
        statuses = sorted(
            (
                status
                for status in self.replicas.values()
                if status.deployment == deployment.name and (of is None or (status.model, status.version) == of)
            ),
            key=lambda status: status.id,
        )
        reasons = [reason for status in statuses if (reason := self._why_not(status, now))]
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
        load = self._loads[status.id].report.load
        unreported = self._unreported(status.id)
        sequences = load.running + load.waiting + len(unreported)
        return load.queued_tokens + sum(entry.tokens for entry in unreported) + SEQUENCE_TOKENS * sequences

    def _free_slots(self, status: ReplicaStatus) -> int:
        load = self._loads[status.id].report.load
        return load.free_slots - load.waiting - len(self._unreported(status.id))
