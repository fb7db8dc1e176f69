"""An exponentially weighted mean. Pure."""


class ExponentialMean:
    """A mean in which the newest measurement has a fixed weight; the first one counts alone.

    Args:
        weight: Of the newest measurement, in (0, 1]. About the last 2 / weight measurements matter.
        value: The mean before the first measurement, if one is assumed; that is weighed like a measurement.
    """

    __slots__ = ("_weight", "known", "value")

    def __init__(self, weight: float, value: float | None = None) -> None:
        self._weight = weight
        self.known = value is not None
        """Whether anything was measured or assumed."""
        self.value = 0.0 if value is None else value

    def add(self, value: float) -> None:
        """Add a measurement."""
        self.value = self.value + self._weight * (value - self.value) if self.known else value
        self.known = True
