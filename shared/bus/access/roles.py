"""The users of the bus."""

from enum import StrEnum


class Role(StrEnum):
    """Each has an account with one user of this name."""

    OWNER = "owner"
    """Makes and changes buckets, streams and consumers; no service is it."""
    REGISTRY = "registry"
    SCHEDULER = "scheduler"
    INFERENCE = "inference"
    """The node agents."""
    REPLICA = "replica"
    GATEWAY = "gateway"
    MONITOR = "monitor"


SERVICES = tuple(role for role in Role if role is not Role.OWNER)
"""All that are processes of a running system."""
