"""When a node that is silent may be taken for gone."""

from dataclasses import dataclass


@dataclass(slots=True)
class Patience:
    """Judges nobody until leases could be watched for a whole TTL without a break.

    Breaks are the start of this process, a lost connection, and a pause of the process itself (a stopped or starved
    process finds all leases old when it goes on, though their holders are well).

    Args:
        ttl: Seconds of unbroken watching that are needed.
        pause: Seconds between two observations that count as a pause of the process.
    """

    ttl: float
    pause: float
    _watching_since: float | None = None
    _observed: float = 0.0

    def may_judge(self, *, now: float, fresh: bool) -> bool:
        """Observe the state; call this more often than every `pause` seconds.

        Args:
            now: Seconds, monotonic.
            fresh: Whether leases are seen as they are now.
        """
        paused = now - self._observed > self.pause
        self._observed = now
        if not fresh:
            self._watching_since = None
        elif self._watching_since is None or paused:
            self._watching_since = now
        return self._watching_since is not None and now - self._watching_since >= self.ttl
