"""Time to the first token, and how fast the rest follows. Items are put one after the other."""

import math

from devtools.data.rows import Item
from devtools.evaluate.metric import Metric, ratio
from devtools.evaluate.scorers.scorer import Model, Scorer
from devtools.evaluate.statistics import Floats
from shared.contracts.report import ItemScore


def geometric(sums: Floats) -> Floats:
    """A geometric mean, of logarithms and counts: one slow answer does not decide it."""
    return _exp(ratio(sums))


def _exp(values: Floats) -> Floats:
    with_values: Floats = math.e**values
    return with_values


FIRST_TOKEN = Metric("first_token_s", higher_is_better=False, relative=True, combine=geometric, discrete=False)
TOKENS_PER_SECOND = Metric("tokens_per_second", relative=True, combine=geometric, discrete=False)


async def score_time(item: Item, model: Model) -> ItemScore:
    """Seconds as the client sees them."""
    answer = await model.answer(item)
    sums = {"first_token_s": (math.log(max(answer.first_token_s, 1e-6)), 1.0)}
    if answer.tokens > 1 and answer.total_s > answer.first_token_s:
        rate = (answer.tokens - 1) / (answer.total_s - answer.first_token_s)
        sums["tokens_per_second"] = (math.log(rate), 1.0)
    return ItemScore(answer=answer.text, sums=sums)


LATENCY = Scorer(
    "latency",
    (FIRST_TOKEN, TOKENS_PER_SECOND),
    score_time,
    lambda item: "" if item.messages or item.prompt else "messages or a prompt",
    alone=True,
    fault="Times depend on what else the machine does, and a prompt that was seen before is in the prefix cache.",
)
