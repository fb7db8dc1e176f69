"""A deployment as judge: is the answer better than the reference? Asked in both orders.

A judge prefers places: a verdict that changes with the order is a tie. How far the judge can be trusted shows where
people have judged: `labels.human_answer` with `labels.human_verdict` (win, tie or loss against the reference) is put
to the judge too, and the share of equal verdicts is printed.
"""

from typing import Literal

from devtools.data.rows import Item
from devtools.evaluate.metric import Metric
from devtools.evaluate.scorers.scorer import Model, Scorer, needs_question
from shared.contracts.replica import ChatMessage
from shared.contracts.report import ItemScore
from shared.errors import InvalidInput

Verdict = Literal["win", "tie", "loss"]
WORTH: dict[str, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}
VALIDATED_FROM = 20
"""Human verdicts below which a judge is called unvalidated."""
JUDGE_AGREEMENT = Metric("judge_agreement")
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


async def verdict(item: Item, answer: str, model: Model) -> tuple[Verdict, bool]:
    """On an answer against the reference, and whether both orders agree."""
    reference = item.references[0]
    replies = [await _ask(item, one, other, model) for one, other in ((answer, reference), (reference, answer))]
    first, second = replies
    return combined(first, second), (first, second) in {("A", "B"), ("B", "A"), ("tie", "tie")}


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
    found, agree = await verdict(item, answer, model)
    values = {"judge_win_rate": WORTH[found], "judge_consistent": float(agree)}
    human = item.labels.get("human_verdict")
    if human is not None:
        again, _ = await verdict(item, item.labels["human_answer"], model)
        values["judge_agreement"] = float(again == human)
    return ItemScore(answer=answer, values=values)


def _needs(item: Item) -> str:
    human = item.labels.get("human_verdict")
    if human is not None and (human not in WORTH or "human_answer" not in item.labels):
        return "labels.human_answer, with labels.human_verdict win, tie or loss"
    return needs_question(item)


JUDGE = Scorer(
    "judge",
    (Metric("judge_win_rate"), Metric("judge_consistent"), JUDGE_AGREEMENT),
    score_judged,
    _needs,
    fault="A judge is a model: it has a taste of its own, and may prefer answers of its own kind.",
)
