"""How many of the things that any stranger can cause are recorded one by one; all are counted."""

from dataclasses import dataclass


@dataclass(slots=True)
class Allowance:
    """A token bucket: `burst` at once, `per_s` in each second after it. Pure: `now` is an argument."""

    burst: int = 20
    per_s: float = 2.0
    _left: float = -1.0
    _at: float = 0.0
    _passed_over: int = 0

    def take(self, now: float) -> int | None:
        """None: do not record this one. Else how many were passed over since the last that was recorded."""
        full = self._left < 0
        self._left = float(self.burst) if full else min(self.burst, self._left + (now - self._at) * self.per_s)
        self._at = now
        if self._left < 1:
            self._passed_over += 1
            return None
        self._left -= 1
        passed_over, self._passed_over = self._passed_over, 0
        return passed_over
