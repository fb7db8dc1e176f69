"""File descriptors: each connection needs one, and the usual limit of a process is 1024."""

import resource

import structlog

_log = structlog.get_logger("llmos.gateway")

RESERVE = 256
"""For the bus, the store, the log and files that are uploaded."""


def connections_allowed(desired: int) -> int:
    """How many connections this process can have, up to `desired`; raises its limit as far as the system lets it.

    Without descriptors the server could accept nobody, not even to refuse.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < desired + RESERVE:
        soft = desired + RESERVE if hard == resource.RLIM_INFINITY else min(hard, desired + RESERVE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= desired + RESERVE:
        return desired
    allowed = max(1, soft - RESERVE)
    _log.warning(
        "connections.limited",
        desired=desired,
        allowed=allowed,
        file_descriptors=soft,
        to_allow_more="raise the limit of open files (ulimit -n)",
    )
    return allowed
