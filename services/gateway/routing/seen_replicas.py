"""When this gateway could send requests to a new replica: the last span of a deployment's way."""

from collections.abc import Callable, Mapping

from opentelemetry import trace

from shared.contracts.load import LoadReport
from shared.contracts.scheduler import Deployment, ReplicaState, ReplicaStatus
from shared.telemetry import genai, origins

_tracer = trace.get_tracer("llmos.gateway")


class SeenReplicas:
    """A `ReplicaObserver` that makes a span for each replica that becomes ready while the gateway runs.

    Args:
        deployments: All, by name, as they are now.
    """

    def __init__(self, deployments: Callable[[], Mapping[str, Deployment]]) -> None:
        self._deployments = deployments
        self._replicas: Mapping[str, ReplicaStatus] = {}
        self._waiting: set[str] = set()
        """Seen before they were ready."""

    def set_replicas(self, replicas: Mapping[str, ReplicaStatus]) -> None:
        """The replicas with a valid lease, by id."""
        self._replicas = replicas
        self._waiting &= replicas.keys()
        for replica, status in replicas.items():
            if status.state in (ReplicaState.STARTING, ReplicaState.LOADING):
                self._waiting.add(replica)

    def report(self, report: LoadReport, now: float) -> None:  # noqa: ARG002  # an observer's form
        """A load report arrived: from now on the replica is routed to, if it is ready."""
        status = self._replicas.get(report.replica_id)
        if status is None or report.replica_id not in self._waiting or status.state is not ReplicaState.READY:
            return
        self._waiting.discard(report.replica_id)
        deployment = self._deployments().get(status.deployment)
        attributes = {
            genai.DEPLOYMENT: status.deployment,
            genai.REPLICA: status.id,
            genai.NODE: status.node,
        }
        origin = deployment.origin if deployment is not None else None
        origins.begin(_tracer, f"route to {status.deployment}", origin, attributes).end()

    def forget_silent(self, now: float, after: float) -> None:
        """Nothing is remembered of silent replicas."""
