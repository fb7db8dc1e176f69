import math

import numpy as np
import pytest

from devtools.evaluate import bootstrap
from devtools.evaluate.metric import ratio
from devtools.evaluate.score_interval import score_interval
from devtools.evaluate.statistics import mean, paired, wilson
from devtools.evaluate.student import t_quantile

random = np.random.default_rng(11)


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),  # from the tables in NIST's Engineering Statistics Handbook
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 9, 2.262),
        (0.95, 4, 2.132),
        (0.975, 100, 1.984),
    ],
)
def test_quantiles_of_student(probability, freedom, expected):
    assert t_quantile(probability, freedom) == pytest.approx(expected, abs=6e-4)
    assert t_quantile(1 - probability, freedom) == pytest.approx(-expected, abs=6e-4)


def test_without_groups_the_error_is_that_of_a_mean():
    x = random.standard_normal(40)
    found = mean(x, [""] * 40)
    assert found.value == pytest.approx(x.mean())
    assert found.stderr == pytest.approx(x.std(ddof=1) / math.sqrt(40))
    assert (found.n, found.clusters) == (40, 40)


def test_items_that_are_alike_in_their_groups_count_once():
    x = random.standard_normal(20)
    once, thrice = mean(x, [""] * 20), mean(np.repeat(x, 3), [str(i) for i in range(20) for _ in range(3)])
    assert thrice.stderr == pytest.approx(once.stderr)
    assert (thrice.n, thrice.clusters) == (60, 20)


def test_one_cluster_has_no_error():
    assert mean([0.3, 0.4], ["a", "a"]).stderr is None
    assert paired([0.3], [0.1], [""]).low is None
    assert bootstrap.estimate(np.array([[3.0, 4.0]]), [""], ratio).stderr is None


def test_wilson_has_a_width_where_all_are_right():
    low, high = wilson(50, 50)  # R: prop.test(50, 50, correct = FALSE) -> 0.9286524, 1
    assert low == pytest.approx(0.9286524, abs=1e-6)
    assert high == 1.0
    assert mean([1.0] * 50, [""] * 50).low == pytest.approx(low)


def test_tangos_interval_is_that_of_his_paper():
    # Tango (1998), table of lenses: 43 of 44 and 44 of 44 pairs, n = 44: b = 0, c = 1.
    assert score_interval(0, 1, 44, 0.975) == pytest.approx((-0.118, 0.058), abs=2e-3)
    low, high = score_interval(12, 5, 120, 0.975)
    again = [-end for end in reversed(score_interval(5, 12, 120, 0.975))]
    assert again == pytest.approx([low, high], abs=1e-9)
    assert low < 7 / 120 < high


def test_no_difference_in_a_few_items_leaves_a_wide_interval():
    few, many = paired([1.0] * 5, [1.0] * 5, [""] * 5), paired([1.0] * 500, [1.0] * 500, [""] * 500)
    assert few.low is not None
    assert many.low is not None
    assert few.low < -0.3
    assert -0.01 < many.low < 0


def test_pairing_makes_the_interval_shorter():
    base = random.random(200)
    candidate = base + 0.01 * random.standard_normal(200)
    apart, together = mean(candidate, [""] * 200), paired(candidate, base, [""] * 200)
    assert together.stderr is not None
    assert apart.stderr is not None
    assert together.stderr < apart.stderr / 5


def test_the_bootstrap_of_a_mean_is_the_formula():
    x = random.standard_normal(300)
    groups = [str(i // 3) for i in range(300)]
    exact = mean(x, groups)
    found = bootstrap.estimate(np.stack([x, np.ones(300)], axis=1), groups, ratio)
    assert found.value == pytest.approx(exact.value)
    assert found.stderr == pytest.approx(exact.stderr, rel=0.05)
    assert found.low == pytest.approx(exact.low, abs=0.01)
    assert found == bootstrap.estimate(np.stack([x, np.ones(300)], axis=1), groups, ratio)
