"""Whether a gateway that starts can answer for what was deployed before."""

from collections.abc import Callable

from services.gateway.routing.live_table import LiveTable


class StartUp:
    """Over, for good, once each deployment that wants replicas has one that takes requests, or the time is up.

    What waits for a gateway's readiness at a start of the whole system, as `docker compose up --wait` does, can then
    send requests at once. A replica that is lost later makes no gateway unready.

    Args:
        table: Deployments and replicas.
        timeout: Seconds from the time when both were read.
        clock: Monotonic.
    """

    def __init__(self, table: LiveTable, timeout: float, clock: Callable[[], float]) -> None:
        self._table, self._timeout, self._clock = table, timeout, clock
        self._since: float | None = None
        self._over = False

    def problem(self) -> str | None:
        """What is waited for, or None."""
        if self._over or not self._table.synced:
            return None
        now = self._clock()
        self._since = now if self._since is None else self._since
        waiting = [
            name
            for name, deployment in sorted(self._table.deployments.items())
            if deployment.replicas and not self._table.ready(name)
        ]
        self._over = not waiting or now - self._since >= self._timeout
        return None if self._over else f"no replica is ready yet of {', '.join(waiting)}"
