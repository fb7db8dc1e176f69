"""How fast the engine is, as it was lately: what waiting times and the budget of a step are reckoned from. Pure."""

from dataclasses import dataclass, field

_WEIGHT = 0.1
"""Of the newest measurement in a mean that forgets: about the last twenty count."""


@dataclass(slots=True)
class _Mean:
    """A mean that forgets; 0 before the first measurement."""

    value: float = 0.0
    known: bool = False

    def add(self, value: float) -> None:
        self.value = self.value + _WEIGHT * (value - self.value) if self.known else value
        self.known = True


@dataclass(slots=True)
class Throughput:
    """Measured speeds. Every estimate is 0 while nothing is measured: an idle engine takes what comes."""

    _prompt_token: _Mean = field(default_factory=_Mean)
    """Seconds that one prompt token takes to compute."""
    _step_token: _Mean = field(default_factory=_Mean)
    """Seconds that pass per prompt token in steps that prefill: the decode rows of these steps included."""
    _slot: _Mean = field(default_factory=_Mean)
    """Seconds that a sequence which came to its end had a slot."""

    def measure_step(self, *, prompt_tokens: int, prefill_s: float, decode_s: float) -> None:
        """A step took `prefill_s` + `decode_s` seconds; without times (0) it is not counted."""
        if prompt_tokens and prefill_s > 0:
            self._prompt_token.add(prefill_s / prompt_tokens)
            self._step_token.add((prefill_s + decode_s) / prompt_tokens)

    def measure_slot(self, seconds: float) -> None:
        """A sequence ended after it had a slot for so long."""
        self._slot.add(seconds)

    def prompt_tokens(self, seconds: float) -> int | None:
        """Prompt tokens that can be computed in `seconds`; None while that is not known."""
        if not self._prompt_token.known:
            return None
        return int(seconds / max(self._prompt_token.value, 1e-9))

    def prefill_s(self, prompt_tokens: float) -> float:
        """Seconds until so many prompt tokens are computed, beside the streams that run."""
        return self._step_token.value * prompt_tokens

    def slots_s(self, sequences: float, slots: int) -> float:
        """Seconds until so many of `slots` busy slots came free."""
        return self._slot.value * max(0.0, sequences) / slots
