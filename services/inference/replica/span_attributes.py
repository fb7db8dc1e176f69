"""Attributes of a request's span that describe the replica."""

from opentelemetry.util.types import AttributeValue

from shared.contracts.scheduler import ReplicaAssignment
from shared.telemetry import genai


def replica_attributes(assignment: ReplicaAssignment, node_id: str) -> dict[str, AttributeValue]:
    """Model, version, deployment, replica and node."""
    return {
        genai.PROVIDER_NAME: genai.PROVIDER_LLMOS,
        genai.REQUEST_MODEL: assignment.deployment,
        genai.RESPONSE_MODEL: f"{assignment.model}:{assignment.version}",
        genai.DEPLOYMENT: assignment.deployment,
        genai.REPLICA: assignment.id,
        genai.NODE: node_id,
        genai.MODEL: assignment.model,
        genai.MODEL_VERSION: assignment.version,
    }
