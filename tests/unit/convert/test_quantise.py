import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from devtools.convert.graph.block_matrix import BlockMatrix
from devtools.convert.quantise.quantiser import CHUNK, quantise_int4, quantise_int8
from tests.support.references.naive_quantiser import naive_int4

QUANTISERS = {"int4": quantise_int4, "int8": quantise_int8}


def error(matrix: BlockMatrix, weights: np.ndarray, importance: np.ndarray | float = 1.0) -> float:
    return float(np.mean((matrix.dequantise().astype(np.float64) - weights) ** 2 * importance))


@pytest.mark.parametrize("quantiser", QUANTISERS.values())
@settings(max_examples=30)
@given(
    weights=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.sampled_from([32, 96])), elements=st.floats(-3, 3, width=32)
    )
)
def test_no_weight_is_off_by_more_than_a_step_of_its_block(quantiser, weights: np.ndarray) -> None:
    matrix = quantiser(weights)
    assert (matrix.rows, matrix.columns) == weights.shape
    spread = np.ptp(weights.reshape(len(weights), -1, 32), axis=-1)
    worst = np.abs(matrix.dequantise() - weights).reshape(len(weights), -1, 32).max(axis=-1)
    largest = np.abs(weights).reshape(len(weights), -1, 32).max(axis=-1)
    allowed = largest / 80 if matrix.bits == 8 else spread * (1 / 15 + 0.1)
    assert (worst <= allowed + 1e-5 * largest + 1e-30).all()


@settings(max_examples=30)
@given(
    scale=st.floats(1e-3, 10),
    start=st.floats(-10, 10),
    codes=hnp.arrays(np.uint8, (3, 64), elements=st.integers(0, 15)),
)
def test_weights_on_a_grid_of_sixteen_stay_as_they_are(scale: float, start: float, codes: np.ndarray) -> None:
    codes.reshape(3, 2, 32)[..., 0], codes.reshape(3, 2, 32)[..., 1] = 0, 15
    weights = (codes * scale + start).astype(np.float32)
    # Candidates are told apart in float32: two whose errors differ by 1e-6 of the block's squares are alike, and
    # the root of that is 0.085 of a step where all 32 codes are 15.
    atol = 0.1 * scale + 1e-4 * abs(start)
    np.testing.assert_allclose(quantise_int4(weights).dequantise(), weights, atol=atol)


@pytest.mark.parametrize("shape", ["normal", "heavy tails", "uniform"])
def test_search_loses_clearly_less_than_rounding_between_minimum_and_maximum(shape: str) -> None:
    random = np.random.default_rng(0)
    draw = {
        "normal": lambda: random.standard_normal((64, 512)),
        "heavy tails": lambda: random.standard_t(4, (64, 512)),
        "uniform": lambda: random.uniform(-1, 1, (64, 512)),
    }[shape]
    weights = draw().astype(np.float32)
    assert error(quantise_int4(weights), weights) < 0.85 * error(naive_int4(weights), weights)


def test_errors_move_to_where_they_count_less() -> None:
    random = np.random.default_rng(1)
    weights = random.standard_normal((64, 512)).astype(np.float32)
    importance = np.exp(random.normal(0, 2, 512)).astype(np.float32)
    weighted, plain = quantise_int4(weights, importance), quantise_int4(weights)
    assert error(weighted, weights, importance) < 0.8 * error(plain, weights, importance)
    assert error(weighted, weights) > error(plain, weights)


def test_int8_loses_next_to_nothing() -> None:
    weights = np.random.default_rng(2).standard_normal((64, 512)).astype(np.float32)
    assert error(quantise_int8(weights), weights) < 4e-5
    assert error(quantise_int4(weights), weights) > 20 * error(quantise_int8(weights), weights)


@pytest.mark.parametrize("quantiser", QUANTISERS.values())
@pytest.mark.parametrize("value", [0.0, 3.5, -1e-30, 1e10])
def test_constant_matrix_stays_as_it_is(quantiser, value: float) -> None:
    weights = np.full((3, 64), value, np.float32)
    np.testing.assert_allclose(quantiser(weights).dequantise(), weights, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("quantiser", QUANTISERS.values())
def test_result_does_not_depend_on_how_work_is_split(quantiser, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(3).standard_normal((40, 96)).astype(np.float32)
    importance = np.random.default_rng(4).uniform(0, 2, 96).astype(np.float32)
    assert weights.size // 32 < CHUNK
    at_once = quantiser(weights, importance).dequantise()
    monkeypatch.setattr("devtools.convert.quantise.quantiser.CHUNK", 7)
    np.testing.assert_allclose(quantiser(weights, importance).dequantise(), at_once, atol=1e-5)


def test_input_that_was_never_used_costs_no_accuracy_elsewhere_and_no_nan() -> None:
    weights = np.random.default_rng(5).standard_normal((8, 64)).astype(np.float32)
    for importance in (np.zeros(64, np.float32), np.eye(1, 64, 5, dtype=np.float32)[0]):
        assert np.isfinite(quantise_int4(weights, importance).dequantise()).all()
