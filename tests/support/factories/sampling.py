"""Choosing tokens without an engine around it."""

from collections.abc import Sequence

from services.inference.engine.decoder import Logits
from services.inference.engine.sampling.params import SamplingParams
from services.inference.engine.sampling.sampler import Draw, choose


def sample(logits: Logits, params: Sequence[SamplingParams], positions: Sequence[int]) -> list[int]:
    """One token per row, by its parameters and position alone."""
    rows = zip(logits, params, positions, strict=True)
    return [choose(row, Draw(param, position)).token for row, param, position in rows]
