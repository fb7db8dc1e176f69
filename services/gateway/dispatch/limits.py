"""How long dispatch waits for replicas, and how often it tries again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """Limits of dispatch; times are in seconds."""

    accept: float = 2.0
    """For a replica to accept or reject, plus time for a large prompt."""
    resume: float = 30.0
    """For another replica when one was lost."""
    resumes_in_place: int = 3
    """Consecutive losses without a new token after which the request itself counts as the cause."""
