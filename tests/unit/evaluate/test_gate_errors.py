"""How often a gate is wrong, by simulation: the seeds are fixed, so are the figures."""

import numpy as np
import pytest

from devtools.evaluate.gate import Outcome, Rule, Verdict, items_needed, judge, outcome_of, overall
from devtools.evaluate.metric import Metric, exp_ratio
from devtools.evaluate.statistics import paired
from shared.contracts.report import ItemScore

MARGIN = 0.05
DISCORDANT = 0.10
SIMULATIONS = 1000


def pair(random, n, true_difference, clusters=None):
    """Right and wrong answers of two models: they differ in a tenth of the items. Clustered: by whole clusters."""
    draws = random.random(clusters or n)
    if clusters:
        draws = np.repeat(draws, n // clusters)
    up, down = (DISCORDANT + true_difference) / 2, (DISCORDANT - true_difference) / 2
    difference = np.where(draws < up, 1, np.where(draws < up + down, -1, 0))
    base = np.where(difference == 1, 0, np.where(difference == -1, 1, random.random(len(draws)) < 0.6))
    return base + difference, base


def outcomes(true_difference, *, n=500, clusters=None, margin=MARGIN):
    random = np.random.default_rng(7)
    groups = [str(i // (n // clusters)) if clusters else "" for i in range(n)]
    found = []
    for _ in range(SIMULATIONS):
        estimate = paired(*pair(random, n, true_difference, clusters), groups)
        found.append((outcome_of(estimate.low, estimate.high, -margin), estimate))
    return found


def share(found, outcome):
    return sum(one is outcome for one, _ in found) / len(found)


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_equal_models_fail_in_at_most_one_of_forty(n):
    assert share(outcomes(0.0, n=n), Outcome.FAIL) <= 0.025
    assert share(outcomes(0.0, n=n, margin=0.001), Outcome.FAIL) <= 0.025


@pytest.mark.parametrize("n", [200, 500, 1000])
def test_models_at_the_margin_pass_in_at_most_three_of_a_hundred(n):
    assert share(outcomes(-MARGIN, n=n), Outcome.PASS) <= 0.03


def test_clusters_count_not_items():
    # 1000 items in 100 clusters whose items are all alike are 100 observations.
    found = outcomes(-MARGIN, n=1000, clusters=100)
    assert share(found, Outcome.PASS) <= 0.03
    assert share(outcomes(-MARGIN / 2, n=1000, clusters=100), Outcome.UNDECIDED) > 0.5


def test_what_is_clear_is_decided():
    assert share(outcomes(0.0, n=1000), Outcome.PASS) > 0.95
    assert share(outcomes(-0.1, n=1000), Outcome.FAIL) > 0.95
    assert share(outcomes(0.0, n=50), Outcome.UNDECIDED) > 0.5


@pytest.mark.parametrize("true_difference", [0.0, -0.08])
def test_the_number_that_is_named_decides_in_four_of_five_cases(true_difference):
    undecided = [estimate for outcome, estimate in outcomes(true_difference, n=100) if outcome is Outcome.UNDECIDED]
    random = np.random.default_rng(8)
    decided = 0
    for estimate in undecided[:150]:
        needed = items_needed(estimate.value, estimate.stderr, estimate.n, -MARGIN)
        again = paired(*pair(random, min(needed, 20_000), true_difference), [""] * min(needed, 20_000))
        decided += outcome_of(again.low, again.high, -MARGIN) is not Outcome.UNDECIDED
    assert decided / 150 >= 0.8


def scores(name, values):
    return [ItemScore(values={name: value}) for value in values]


def test_a_few_equal_answers_prove_nothing():
    equal = scores("exact_match", [1.0] * 5)
    verdict = judge("s:1", Metric("exact_match"), equal, equal, [""] * 5, rule=Rule(0.02))
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.needed is not None
    assert verdict.needed > 50
    many = equal * 60
    assert judge("s:1", Metric("exact_match"), many, many, [""] * 300, rule=Rule(0.02)).outcome is Outcome.PASS


def test_a_required_rise_is_a_threshold_above_zero():
    better, worse = scores("f1", [1.0] * 90 + [0.0] * 10), scores("f1", [0.0] * 100)
    assert judge("s:1", Metric("f1"), better, worse, [""] * 100, rule=Rule(must_rise_by=0.5)).outcome is Outcome.PASS
    assert judge("s:1", Metric("f1"), worse, worse, [""] * 100, rule=Rule(must_rise_by=0.5)).outcome is Outcome.FAIL


def test_perplexity_may_rise_by_a_share():
    random = np.random.default_rng(3)
    perplexity = Metric("perplexity", higher_is_better=False, relative=True, combine=exp_ratio, discrete=False)
    tokens = random.integers(80, 120, 60)
    nats = tokens * (3 + 0.2 * random.standard_normal(60))

    def of(factor):
        return [
            ItemScore(sums={"perplexity": (float(x + np.log(factor) * t), float(t))})
            for x, t in zip(nats, tokens, strict=True)
        ]

    base, groups = of(1.0), [""] * 60
    assert judge("s:1", perplexity, of(1.019), base, groups, rule=Rule(0.02)).outcome is Outcome.PASS
    assert judge("s:1", perplexity, of(1.03), base, groups, rule=Rule(0.02)).outcome is Outcome.FAIL
    assert judge("s:1", perplexity, base, base, groups, rule=Rule(0.02)).outcome is Outcome.PASS


def test_all_suites_must_pass():
    def verdict(outcome):
        return Verdict("s:1", "f1", outcome, 0.0, 0.0, 0.0, -0.02, 10)

    passed, failed, undecided = (verdict(one) for one in (Outcome.PASS, Outcome.FAIL, Outcome.UNDECIDED))
    assert overall([passed, passed]) is Outcome.PASS
    assert overall([passed, undecided]) is Outcome.UNDECIDED
    assert overall([undecided, failed]) is Outcome.FAIL
    assert overall([]) is Outcome.UNDECIDED
