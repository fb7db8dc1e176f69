"""Choosing tokens without an engine around it."""

from collections.abc import Sequence

from services.inference.engine.decoder import Logits
from services.inference.engine.params import SamplingParams
from services.inference.engine.sampler import Draw, choose


def sample(logits: Logits, params: Sequence[SamplingParams], positions: Sequence[int]) -> list[int]:
    """One token per row, by its parameters and position alone."""
    draws = [Draw(param, position) for param, position in zip(params, positions, strict=True)]
    return [choice.token for choice in choose(logits, draws) if choice is not None]
