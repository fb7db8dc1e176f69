"""Every subject that is not stored: requests with who answers them, and broadcasts with who receives them."""

from dataclasses import dataclass

from shared.bus.access.roles import SERVICES, Role
from shared.contracts import registry
from shared.contracts.gateway import frames_subject
from shared.contracts.load import load_subject
from shared.contracts.monitor import health_subject
from shared.contracts.replica import drain_endpoint
from shared.contracts.scrub import check_cached_blob


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that one role answers."""

    subject: str
    """As a pattern."""
    answered_by: Role
    sent_by: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Messages without an answer."""

    subject: str
    """As a pattern."""
    sent_by: Role
    received_by: tuple[Role, ...]


REQUESTS = (
    Requests("llmos.v1.registry.*", Role.REGISTRY, sent_by=(Role.GATEWAY,)),
    *(Requests(one.resolve.subject, Role.REGISTRY, sent_by=(Role.SCHEDULER,)) for one in registry.CATALOGUES),
    *(Requests(one.create.subject, Role.REGISTRY, sent_by=(Role.INFERENCE,)) for one in registry.CATALOGUES),
    Requests("llmos.v1.scheduler.*", Role.SCHEDULER, sent_by=(Role.GATEWAY,)),
    Requests("llmos.v1.monitor.*", Role.MONITOR, sent_by=(Role.GATEWAY,)),
    Requests(check_cached_blob("*").subject, Role.INFERENCE, sent_by=(Role.GATEWAY,)),
    Requests("llmos.v1.replica.*.*", Role.REPLICA, sent_by=(Role.GATEWAY,)),
    Requests(drain_endpoint("*").subject, Role.REPLICA, sent_by=(Role.INFERENCE,)),
)

BROADCASTS = (
    Broadcast(frames_subject("*"), Role.REPLICA, received_by=(Role.GATEWAY,)),
    Broadcast(load_subject("*"), Role.REPLICA, received_by=(Role.GATEWAY, Role.INFERENCE, Role.MONITOR)),
    Broadcast(health_subject("gateway", "*"), Role.GATEWAY, received_by=(Role.REPLICA,)),
    *(Broadcast(health_subject(role, ">"), role, received_by=(Role.MONITOR,)) for role in SERVICES),
)
