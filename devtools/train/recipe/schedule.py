"""The learning rate of each step."""

import math

from devtools.train.recipe.tables import Schedule


def rate_at(step: int, total: int, schedule: Schedule) -> float:
    """The share of the highest learning rate in `step` (from 0) of `total`.

    It rises in a line during the warm-up, then falls to the floor as half a cosine (https://arxiv.org/abs/1608.03983)
    or in a line, or stays.
    """
    warmup = round(schedule.warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    if schedule.kind == "constant":
        return 1.0
    fall = 0.5 * (1 + math.cos(math.pi * done)) if schedule.kind == "cosine" else 1 - done
    return schedule.floor + (1 - schedule.floor) * fall
