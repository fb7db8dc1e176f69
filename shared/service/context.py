"""What a service's composition root is given."""

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.bus.port import Bus
from shared.disk import Disk
from shared.service.readiness import Readiness


def _stop_by_signal_only() -> None:
    """For a context without a running service, as in tests."""


@dataclass
class Context:
    """The running process, as `app(context)` sees it."""

    name: str
    """The service: registry, scheduler, inference, gateway, monitor or replica."""
    instance: str
    """This process among its kind; also valid as a KV key and in subjects."""
    bus: Bus
    readiness: Readiness
    disk: Disk = field(default_factory=lambda: Disk(None))
    """Which this process and the bus write to."""
    stop: Callable[[], None] = _stop_by_signal_only
    """Ends the service as SIGTERM would: drain, then exit code 0. To be called on the event loop."""
