"""How many sequences steps advance."""

from dataclasses import dataclass


@dataclass(slots=True)
class BatchSizes:
    """The largest batch since the start, and the mean since the last look."""

    largest: int = 0
    _steps: int = 0
    _advanced: int = 0

    def add(self, batch: int) -> None:
        """A step advanced `batch` sequences."""
        self.largest = max(self.largest, batch)
        self._steps += 1
        self._advanced += batch

    def take_mean(self) -> float:
        """Sequences per step since the last call; 0 without a step."""
        mean = self._advanced / self._steps if self._steps else 0.0
        self._steps = self._advanced = 0
        return mean
