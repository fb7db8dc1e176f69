"""Requests, errors and slow first tokens of each deployment in sliding windows. `now` is in monotonic seconds."""

from collections import deque
from dataclasses import dataclass, field

STEP_S = 30.0
"""Exactness of a window's border."""
LONGEST_S = 6 * 3600.0


@dataclass(slots=True)
class Count:
    """Of one deployment."""

    requests: int = 0
    errors: int = 0
    """Answered with 5xx."""
    first_tokens: int = 0
    slow: int = 0
    """First tokens that took too long."""

    def add(self, other: "Count") -> None:
        """Add another count to this one."""
        self.requests += other.requests
        self.errors += other.errors
        self.first_tokens += other.first_tokens
        self.slow += other.slow


@dataclass(slots=True)
class Rates:
    """What was counted, for as long as the longest window is.

    slow_s: seconds from which a first token is slow
    """

    slow_s: float
    _steps: deque[tuple[int, dict[str, Count]]] = field(default_factory=deque)

    def request(self, deployment: str, status: int, now: float) -> None:
        """A request ended."""
        self._count(deployment, now).add(Count(requests=1, errors=int(status >= 500)))

    def first_token(self, deployment: str, seconds: float, now: float) -> None:
        """A replica had a first token."""
        self._count(deployment, now).add(Count(first_tokens=1, slow=int(seconds > self.slow_s)))

    def over(self, window_s: float, now: float) -> dict[str, Count]:
        """The sums of the last `window_s` seconds, by deployment."""
        first = int((now - window_s) // STEP_S) + 1
        sums: dict[str, Count] = {}
        for step, counts in reversed(self._steps):
            if step < first:
                break
            for deployment, count in counts.items():
                sums.setdefault(deployment, Count()).add(count)
        return sums

    def _count(self, deployment: str, now: float) -> Count:
        step = int(now // STEP_S)
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append((step, {}))
            while self._steps[0][0] < step - LONGEST_S / STEP_S:
                self._steps.popleft()
        return self._steps[-1][1].setdefault(deployment, Count())
