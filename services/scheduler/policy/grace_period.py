"""The grace period of silent nodes: when a node without a lease counts as gone."""

from dataclasses import dataclass


@dataclass(slots=True)
class GracePeriod:
    """Over once leases were watched for a whole time to live without a break.

    Breaks are the start of this process, a lost connection, and a pause of the process itself: after a pause all
    leases look old, although their holders renewed them.

    Args:
        ttl: Seconds of unbroken watching that are needed.
        pause: Seconds between two calls that count as a pause of the process.
    """

    ttl: float
    pause: float
    _watching_since: float | None = None
    _called_at: float = 0.0

    def is_over(self, *, now: float, fresh: bool) -> bool:
        """Whether the grace period is over now; to be called more often than every `pause` seconds.

        Args:
            now: Seconds, monotonic.
            fresh: Whether leases are seen as they are now.
        """
        paused = now - self._called_at > self.pause
        self._called_at = now
        if not fresh:
            self._watching_since = None
        elif self._watching_since is None or paused:
            self._watching_since = now
        return self._watching_since is not None and now - self._watching_since >= self.ttl
