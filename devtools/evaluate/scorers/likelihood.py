"""Multiple choice by likelihood: the choice that the model finds most probable behind the prompt.

The figures are those of lm-evaluation-harness: `accuracy` is its `acc`, `accuracy_norm` its `acc_norm`, which divides
a choice's log-likelihood by its length in characters.
"""

import math
from collections.abc import Sequence

import numpy as np

from devtools.data.rows import Item
from devtools.evaluate.metric import Metric
from devtools.evaluate.scorers.scorer import Model, Scorer, needs_choices
from devtools.evaluate.statistics import Floats
from shared.contracts.report import ItemScore

BINS = 10


def calibration(sums: Floats) -> Floats:
    """The expected calibration error: [rounds, 3 * BINS] sums of confidence, of hits and of items, by bin."""
    confidence, hits, counts = np.split(sums, 3, axis=1)
    result: Floats = np.abs(confidence - hits).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return result


ACCURACY = Metric("accuracy")
ACCURACY_NORM = Metric("accuracy_norm")
CALIBRATION_ERROR = Metric("calibration_error", higher_is_better=False, combine=calibration)


async def loglikelihoods(item: Item, model: Model) -> list[tuple[float, int]]:
    """Of each choice: log-likelihood and tokens.

    A choice follows the prompt, after a space where neither has one; or the messages, as an answer; or, without
    either, begins a text.
    """
    if item.messages:
        return await _as_answers(item, model)
    start = item.prompt or item.labels.get("start", model.subject.start)
    joint = " " if item.prompt and not item.prompt[-1].isspace() else ""
    texts = [start + (choice if choice[:1].isspace() or not joint else joint + choice) for choice in item.choices]
    found = await model.gateway.score(model.subject.deployment, texts)
    return [scored.behind(len(start)) for scored in found]


async def _as_answers(item: Item, model: Model) -> list[tuple[float, int]]:
    name = model.subject.deployment
    prompt = await model.gateway.prompt_ids(name, item.messages)
    tokens = [scored.token_ids for scored in await model.gateway.score(name, item.choices)]
    if model.subject.start == "":  # the BOS token of a text of its own
        tokens = [ids[1:] for ids in tokens]
    found = await model.gateway.score(name, [[*prompt, *ids] for ids in tokens])
    return [scored.from_token(len(prompt)) for scored in found]


async def score_choices(item: Item, model: Model) -> ItemScore:
    """The likeliest choice, the likeliest by length, and how sure the model was."""
    found = [value for value, _ in await loglikelihoods(item, model)]
    return of_choices(item, found)


def of_choices(item: Item, found: Sequence[float]) -> ItemScore:
    """The score of an item whose choices have these log-likelihoods."""
    best = int(np.argmax(found))
    by_length = int(np.argmax([value / len(choice) for value, choice in zip(found, item.choices, strict=True)]))
    confidence = 1 / sum(math.exp(value - found[best]) for value in found)
    place = min(BINS - 1, int(confidence * BINS))
    hit = float(best == item.answer)
    bins = np.zeros((3, BINS))
    bins[:, place] = confidence, hit, 1
    return ItemScore(
        answer=item.choices[best],
        values={"accuracy": hit, "accuracy_norm": float(by_length == item.answer)},
        sums={"calibration_error": tuple(bins.ravel().tolist())},
        loglikelihoods=tuple(found),
    )


CHOICE = Scorer("choice", (ACCURACY, ACCURACY_NORM, CALIBRATION_ERROR), score_choices, needs_choices)
