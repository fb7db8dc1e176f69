"""What a report says of its judge."""

import re

from devtools.evaluate.evaluation import Evaluation
from devtools.evaluate.judge_notes import judge_notes
from devtools.evaluate.options import Options
from devtools.evaluate.scorers.judge import counts_of
from devtools.evaluate.subject import Subject
from shared.contracts.report import ItemScore, ReportItem

JUDGE = Subject("big", "big:2", "cd" * 32, "\n")
ASKED = Subject("m", "m:1", "ab" * 32, "\n")


def item(number, *, bias=0.0, human=None, judged="win"):
    values, sums = {"judge_win_rate": 1.0, "judge_consistent": 1.0}, {"judge_position_bias": (bias, 1.0)}
    if human is not None:
        values["judge_agreement"] = float(judged == human)
        sums["judge_kappa"] = counts_of(judged, human)
    return ReportItem(suite="s:1", item=f"{number:032x}", scorer="judge", subject=ItemScore(values=values, sums=sums))


def notes(items, *, judge=JUDGE):
    return list(judge_notes(Evaluation(Options(subject="m", judge="big"), ASKED, None, (), judge), items))


def test_the_version_that_judged_is_named_and_one_without_human_verdicts_is_unvalidated():
    named, unvalidated = notes([item(number) for number in range(30)])
    assert named == "The judge is big:2, asked in both orders."
    assert unvalidated.startswith("Unvalidated judge: 0 answers have a human verdict")
    assert notes([]) == []


def test_a_version_that_judges_its_own_answers_is_told():
    assert notes([item(0)], judge=ASKED)[1] == "m:1 judges its own answers."


def test_agreement_and_kappa_have_their_intervals():
    verdicts = [("win", "win")] * 20 + [("loss", "win")] * 10 + [("win", "loss")] * 5 + [("loss", "loss")] * 15
    *_, said = notes([item(at, judged=ours, human=theirs) for at, (ours, theirs) in enumerate(verdicts)])
    found = re.fullmatch(
        r"The judge agrees with 50 human verdicts: 0\.70 \((\S+) to (\S+)\), Cohen's kappa 0\.40 \((\S+) to (\S+)\),"
        r" with 95 % intervals\.",
        said,
    )
    assert found is not None, said
    low, high, kappa_low, kappa_high = map(float, found.groups())
    assert 0.55 < low < 0.7 < high < 0.85
    assert 0.1 < kappa_low < 0.4 < kappa_high < 0.7


def test_a_bias_for_a_place_is_told_when_it_is_more_than_chance():
    for sign, place in ((1, "first"), (-1, "last")):
        (said,) = [note for note in notes([item(at, bias=sign * (at % 2)) for at in range(20)]) if "bias" in note]
        assert said == (
            "The judge has a bias: where its verdict changed with the order, it took the answer that came"
            f" {place} in 10 of 10 cases (0.72 to 1.00)."
        )
    for biases in ([1.0, -1.0] * 5, [0.0] * 20, [0.0] * 19 + [1.0]):
        assert not any("bias" in note for note in notes([item(at, bias=bias) for at, bias in enumerate(biases)]))
