"""What a service's composition root is given."""

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.audit.trail import Trail
from shared.bus.port import Bus
from shared.contracts.events import CHAINS
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
    _trails: dict[str, Trail] = field(default_factory=dict)

    def trail(self, chain: str = "") -> Trail:
        """Writes this process's events: to the chain of its service, or to another that is its own."""
        name = chain or self.name
        return self._trails.setdefault(name, Trail(self.bus, CHAINS[name], actor=self.instance))
