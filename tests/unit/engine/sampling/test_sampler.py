import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine.sampling.params import SamplingParams
from services.inference.engine.sampling.sampler import unit_float
from tests.support.factories.sampling import sample


def params(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0) -> SamplingParams:
    return SamplingParams(1, temperature, top_k, top_p, seed)


def draws(row: list[float], param: SamplingParams, count: int = 3000) -> np.ndarray:
    """How often each token is drawn, over `count` positions."""
    logits = np.tile(np.array(row, dtype=np.float32), (count, 1))
    return np.bincount(sample(logits, [param] * count, range(count)), minlength=len(row)) / count


def test_greedy_takes_the_lowest_of_equal_maxima():
    assert sample(np.array([[0, 3, 1, 3]], dtype=np.float32), [params(0.0)], [0]) == [1]


def test_the_unit_floats_are_those_of_splitmix64():
    # splitmix64 gives 0xE220A8397B1DCDAF for state 0, and the number below for that.
    assert unit_float(0, 0) == (0xA706DD2F4D197E6F >> 11) * 2.0**-53
    numbers = np.array([unit_float(7, position) for position in range(20000)])
    assert abs(numbers.mean() - 0.5) < 0.01
    assert abs(numbers.var() - 1 / 12) < 0.003
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0


def test_temperature_one_draws_from_the_softmax():
    probabilities = np.array([0.5, 0.25, 0.15, 0.1])
    assert np.allclose(draws(np.log(probabilities).tolist(), params()), probabilities, atol=0.03)


def test_a_low_temperature_sharpens():
    cold = draws([1.0, 0.5, 0.0], params(temperature=0.25))
    expected = np.exp(np.array([4.0, 2.0, 0.0]))
    assert np.allclose(cold, expected / expected.sum(), atol=0.03)


@pytest.mark.parametrize("temperature", [1e-6, 1e-40, 5e-324])
def test_a_temperature_near_zero_is_greedy(temperature: float):
    logits = np.random.default_rng(0).standard_normal((8, 100)).astype(np.float32)
    assert sample(logits, [params(temperature)] * 8, range(8)) == logits.argmax(axis=1).tolist()


def test_top_k_lets_only_the_k_most_probable_through():
    shares = draws([0.0, 2.0, 1.0, 1.5, -1.0], params(top_k=2))
    assert set(np.flatnonzero(shares)) == {1, 3}


def test_top_p_lets_the_smallest_set_through_that_reaches_p():
    row = np.log([0.5, 0.3, 0.15, 0.05]).tolist()
    assert set(np.flatnonzero(draws(row, params(top_p=0.7)))) == {0, 1}
    assert set(np.flatnonzero(draws(row, params(top_p=0.81)))) == {0, 1, 2}
    assert set(np.flatnonzero(draws(row, params(top_p=0.01)))) == {0}


def test_top_p_counts_what_top_k_left():
    row = np.log([0.4, 0.3, 0.2, 0.1]).tolist()
    # Of the first two, 0.4 / 0.7 = 0.571.
    assert set(np.flatnonzero(draws(row, params(top_k=2, top_p=0.55)))) == {0}
    assert set(np.flatnonzero(draws(row, params(top_k=2, top_p=0.6)))) == {0, 1}


def test_the_logits_are_not_changed():
    logits = np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32)
    before = logits.copy()
    sample(logits, [params(0.7, 5, 0.9, seed) for seed in range(4)], range(4))
    assert np.array_equal(logits, before)


def reference(row: np.ndarray, param: SamplingParams) -> set[int]:
    """The tokens that may be drawn, by sorting everything in float64."""
    scaled = (row.astype(np.float64) - row.max()) / param.temperature
    weights = np.exp(scaled)
    order = np.argsort(-weights, kind="stable")[: param.top_k or None]
    cumulative = np.cumsum(weights[order]) / weights[order].sum()
    return set(order[: int(np.searchsorted(cumulative, param.top_p)) + 1].tolist())


@given(
    st.integers(0, 2**32),
    st.floats(0.05, 2.0),
    st.sampled_from([0, 1, 5, 40, 5000]),
    st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]),
    st.floats(0.01, 8.0),
)
def test_a_drawn_token_is_one_that_may_be_drawn(
    seed: int, temperature: float, top_k: int, top_p: float, spread: float
):
    row = (np.random.default_rng(seed).standard_normal(2000) * spread).astype(np.float32)
    param = params(temperature, top_k, top_p, seed)
    allowed = reference(row, param)
    for position in range(20):
        (token,) = sample(row[None], [param], [position])
        if token not in allowed:
            # Float32 weights may move the border of the set by one token of almost the same weight.
            border = min(row[list(allowed)])
            assert row[token] == pytest.approx(border, abs=1e-3)


@given(st.integers(0, 2**32), st.integers(2, 16))
def test_a_row_gets_the_same_token_in_any_batch(seed: int, batch: int):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((batch, 3001)) * 3).astype(np.float32)
    rows = [
        params(*choice, seed=index)
        for index, choice in zip(
            range(batch),
            [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.7, 40, 1.0), (0.9, 0, 0.9), (1.3, 50, 0.8)] * 4,
            strict=False,
        )
    ]
    positions = rng.integers(0, 5000, batch).tolist()
    together = sample(logits, rows, positions)
    alone = [sample(logits[i : i + 1].copy(), [rows[i]], [positions[i]])[0] for i in range(batch)]
    order = rng.permutation(batch)
    shuffled = sample(logits[order], [rows[i] for i in order], [positions[i] for i in order])
    assert together == alone
    assert shuffled == [together[i] for i in order]
