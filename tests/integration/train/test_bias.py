"""The claims of docs/bias.md on the corpus of `python -m benchmarks.bias`, whose bias is known."""

import os

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from benchmarks.bias.means import MEANS
from benchmarks.bias.run import learn

LONG = pytest.mark.skipif("LLMOS_TEST_LONG" not in os.environ, reason="takes minutes: set LLMOS_TEST_LONG=1")
pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(900), LONG]
BY_NAME = {means.name: means for means in MEANS}
NAMES_TOO, PRONOUNS_ONLY = "counterfactual copies, names too", "counterfactual copies, pronouns only"
REGULARISERS = ["dropout 0.3", "weight decay 0.3", "label smoothing 0.1", "R-Drop 1, dropout 0.1", "NEFTune 5"]


def learnt(name, tmp_path):
    return learn(BY_NAME[name], tmp_path / "run")


def test_a_model_learns_the_bias_of_its_rows(tmp_path):
    found = learnt("nothing", tmp_path)
    assert 0.7 < found.bias < 0.9, found
    assert found.right > 0.98, found


@pytest.mark.parametrize("name", [NAMES_TOO, "balanced"])
def test_means_on_the_data_remove_it_and_keep_what_is_right(name, tmp_path):
    found = learnt(name, tmp_path)
    assert abs(found.bias) < 0.05, found
    assert found.right > 0.98, found


def test_pronouns_swapped_without_names_wreck_what_is_right(tmp_path):
    found = learnt(PRONOUNS_ONLY, tmp_path)
    assert abs(found.bias) < 0.05, found
    assert found.right < 0.6, found


@pytest.mark.parametrize("name", REGULARISERS)
def test_regularisation_does_not_remove_it(name, tmp_path):
    found = learnt(name, tmp_path)
    assert found.bias > 0.6, found
    assert found.right > 0.9, found
