"""Measured speed of the engine: the base of waiting times and of a step's budget. Pure."""

from services.inference.engine.exponential_mean import ExponentialMean

_WEIGHT = 0.1


class Throughput:
    """Recent speeds. Every estimate is 0 before the first measurement, so an idle engine accepts all requests."""

    def __init__(self) -> None:
        self._prompt_token = ExponentialMean(_WEIGHT)
        """Seconds that one prompt token takes to compute."""
        self._step_token = ExponentialMean(_WEIGHT)
        """Seconds per prompt token in steps that prefill, the decode rows of these steps included."""
        self._slot = ExponentialMean(_WEIGHT)
        """Seconds that a completed sequence had a slot."""

    def measure_step(self, *, prompt_tokens: int, prefill_s: float, decode_s: float) -> None:
        """Add a step that took `prefill_s` + `decode_s` seconds; one without times (0) does not count."""
        if prompt_tokens and prefill_s > 0:
            self._prompt_token.add(prefill_s / prompt_tokens)
            self._step_token.add((prefill_s + decode_s) / prompt_tokens)

    def measure_slot(self, seconds: float) -> None:
        """Add a completed sequence that had a slot for `seconds`."""
        self._slot.add(seconds)

    def prompt_tokens(self, seconds: float) -> int | None:
        """Prompt tokens that can be computed in `seconds`; None before the first measurement."""
        if not self._prompt_token.known:
            return None
        return int(seconds / max(self._prompt_token.value, 1e-9))

    def prefill_s(self, prompt_tokens: float) -> float:
        """Seconds until `prompt_tokens` are computed, beside the streams that run."""
        return self._step_token.value * prompt_tokens

    def slots_s(self, sequences: float, slots: int) -> float:
        """Seconds until `sequences` of `slots` busy slots are free again."""
        return self._slot.value * max(0.0, sequences) / slots
