import math

import numpy as np
import pytest

from benchmarks.fidelity import compare, windows


def test_equal_logits_have_no_divergence_whatever_is_added_to_all_of_them():
    logits = np.random.default_rng(0).normal(size=(5, 9)) * 4
    same = compare(logits, logits + 3.0, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(same.divergence, 0.0, atol=1e-12)
    assert same.agree.all()
    np.testing.assert_allclose(*same.surprise)


def test_divergence_and_surprise_are_those_of_the_formulas():
    exact, served = [0.5, 0.25, 0.25], [0.25, 0.5, 0.25]
    found = compare(np.log([exact]), np.log([served]), [1])
    assert found.divergence[0] == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2))
    assert not found.agree[0]
    assert [surprise[0] for surprise in found.surprise] == pytest.approx([math.log(4), math.log(2)])


def test_windows_are_full_and_end_with_the_token_that_follows():
    assert [list(each) for each in windows(range(8), 3)] == [[0, 1, 2, 3], [3, 4, 5, 6]]
