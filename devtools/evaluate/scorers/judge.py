"""A deployment as judge: is the answer better than the reference? Asked in both orders.

A judge prefers places: a verdict that changes with the order is a tie. How far the judge can be trusted shows where
people have judged: `labels.human_answer` with `labels.human_verdict` (win, tie or loss against the reference) is put
to the judge too. Cohen's kappa (1960, doi 10.1177/001316446002000104) is the agreement beyond what two who judge
independently would have: a judge that always says "win" agrees with people as often as they do, and has a kappa of 0.
"""

from typing import Literal, get_args

import numpy as np

from devtools.data.rows import Item
from devtools.evaluate.metric import Metric, ratio
from devtools.evaluate.scorers.scorer import Model, Scorer, needs_question
from devtools.evaluate.statistics import Floats
from shared.contracts.replica import ChatMessage
from shared.contracts.report import ItemScore
from shared.errors import InvalidInput

Verdict = Literal["win", "tie", "loss"]
WORTH: dict[str, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}
_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_INSTRUCTION = """Two answers to the same request follow. Say which one is better: more correct, more complete, and \
doing what was asked. Their order and their length do not matter. Reply with A, B, or tie.

Request:
{request}

Answer A:
{first}

Answer B:
{second}"""


def combined(first: str, second: str) -> Verdict:
    """The verdict on an answer that was A in the first reply of the judge, and B in the second."""
    if (first, second) == ("A", "B"):
        return "win"
    return "loss" if (first, second) == ("B", "A") else "tie"


def position_bias(first: str, second: str) -> float:
    """How much more often the judge took the answer that came first: 1 both times, 0 as often as the other, to -1."""
    replies = (first, second)
    return (replies.count("A") - replies.count("B")) / 2


def kappa(sums: Floats) -> Floats:
    """Cohen's kappa of [rounds, 9] counts: verdicts of the judge, by those of people. NaN where all are the same."""
    table = sums.reshape(-1, len(_VERDICTS), len(_VERDICTS))
    total = table.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.trace(table, axis1=1, axis2=2) / total
        expected = (table.sum(axis=1) * table.sum(axis=2)).sum(axis=1) / total**2
        result: Floats = (observed - expected) / (1 - expected)
    return result


def counts_of(judged: Verdict, human: Verdict) -> tuple[float, ...]:
    """One pair of verdicts in the table of `kappa`."""
    table = np.zeros((len(_VERDICTS), len(_VERDICTS)))
    table[_VERDICTS.index(judged), _VERDICTS.index(human)] = 1
    return tuple(table.ravel().tolist())


async def both_orders(item: Item, answer: str, model: Model) -> tuple[str, str]:
    """What the judge says of an answer and the reference: with the answer as A, and as B."""
    reference = item.references[0]
    return await _ask(item, answer, reference, model), await _ask(item, reference, answer, model)


async def _ask(item: Item, first: str, second: str, model: Model) -> str:
    if model.judge is None:
        raise InvalidInput("the scorer judge needs a deployment that judges: --judge NAME", param="judge")
    request = "\n".join(message.content for message in item.messages) or item.prompt
    content = _INSTRUCTION.format(request=request, first=first, second=second)
    parameters = {"max_tokens": 4, "structured_outputs": {"choice": ["A", "B", "tie"]}}
    reply = await model.gateway.answer(model.judge, [ChatMessage(role="user", content=content)], parameters)
    return reply.text


async def score_judged(item: Item, model: Model) -> ItemScore:
    """1 for a win, 0.5 for a tie, 0 for a loss."""
    answer = (await model.answer(item)).text
    first, second = await both_orders(item, answer, model)
    values = {
        "judge_win_rate": WORTH[combined(first, second)],
        "judge_consistent": float((first, second) in {("A", "B"), ("B", "A"), ("tie", "tie")}),
    }
    sums: dict[str, tuple[float, ...]] = {"judge_position_bias": (position_bias(first, second), 1.0)}
    human = next((verdict for verdict in _VERDICTS if verdict == item.labels.get("human_verdict")), None)
    if human is not None:
        judged = combined(*await both_orders(item, item.labels["human_answer"], model))
        values["judge_agreement"] = float(judged == human)
        sums["judge_kappa"] = counts_of(judged, human)
    return ItemScore(answer=answer, values=values, sums=sums)


def _needs(item: Item) -> str:
    human = item.labels.get("human_verdict")
    if human is not None and (human not in WORTH or "human_answer" not in item.labels):
        return "labels.human_answer, with labels.human_verdict win, tie or loss"
    return needs_question(item)


JUDGE = Scorer(
    "judge",
    (
        Metric("judge_win_rate"),
        Metric("judge_consistent"),
        Metric("judge_position_bias", combine=ratio),  # no rate, also where no item has -1
        Metric("judge_agreement"),
        Metric("judge_kappa", combine=kappa),
    ),
    score_judged,
    _needs,
    fault="A judge is a model: it has a taste of its own, and may prefer answers of its own kind.",
)
