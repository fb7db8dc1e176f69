"""Pooling, normalising, shortening and scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.encoder.pooling import normalized, pool, scores, shortened

STATES = np.array([[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 9], [9, 9]]], np.float32)
LENGTHS = np.array([3, 1])


@pytest.mark.parametrize(
    ("kind", "expected"), [("mean", [[3, 4], [7, 8]]), ("cls", [[1, 2], [7, 8]]), ("last", [[5, 6], [7, 8]])]
)
def test_each_kind_of_pooling_reads_the_texts_own_tokens(kind, expected):
    np.testing.assert_array_equal(pool(STATES, LENGTHS, kind), expected)


@pytest.mark.parametrize("kind", ["mean", "cls", "last"])
def test_padding_has_no_part_in_it_whatever_stands_there(kind):
    dirty = STATES.copy()
    dirty[1, 1:] = [[np.nan, np.inf], [-np.inf, 1e38]]
    np.testing.assert_array_equal(pool(dirty, LENGTHS, kind), pool(STATES, LENGTHS, kind))


def test_vectors_of_a_graph_that_pools_itself_stay_as_they_are():
    assert pool(STATES[:, 0], LENGTHS, "none") is not None
    np.testing.assert_array_equal(pool(STATES[:, 0], LENGTHS, "none"), STATES[:, 0])


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=20), st.integers(1, 20))
def test_a_shortened_vector_has_length_one_or_is_zero(numbers, dimensions):
    vector = np.array(numbers, np.float32)
    short = shortened(vector, dimensions)
    assert len(short) == min(dimensions, len(numbers))
    if np.linalg.norm(vector[:dimensions]) > 1e-6:
        assert np.linalg.norm(short) == pytest.approx(1.0, abs=1e-5)


def test_a_vector_of_zeros_stays_one():
    np.testing.assert_array_equal(normalized(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))


def test_scores_of_large_outputs_do_not_overflow():
    logits = np.array([1000.0, -1000.0, 999.0], np.float32)
    np.testing.assert_allclose(scores(logits, "softmax"), [0.7310586, 0.0, 0.26894143], atol=1e-6)
    np.testing.assert_allclose(scores(logits, "sigmoid"), [1.0, 0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(scores(np.array([0.5], np.float32), "sigmoid"), [1 / (1 + np.exp(-0.5))], rtol=1e-6)
    np.testing.assert_array_equal(scores(logits, "none"), logits)
