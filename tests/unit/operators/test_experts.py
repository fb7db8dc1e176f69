"""`MatMulExperts` gives each token the products of its own experts' matrices, and `RouteExperts` chooses them."""

from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.layout import FILE_TYPES, interleave
from tests.support.harness.one_node import Array, OneNode, all_kernels
from tests.support.models.gguf_blocks import random_blocks

NONE, SILU, GELU = 0, 1, 2
COLUMNS, ROWS, EXPERTS, USED = 256, 40, 6, 3
KINDS = [Type.Q4_0, Type.Q4_K, Type.Q6_K, Type.Q8_0]


def inputs(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def chosen(count: int, *, used: int = USED, seed: int = 2) -> Array:
    """`used` experts of each token, none twice; the last is nobody's."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(EXPERTS - 1)[:used] for _ in range(count)], np.int64).reshape(count, used)


def matrices(kind: Type = Type.Q4_0) -> list[Array]:
    """The rows of each expert's matrix, as they lie in a file."""
    return [random_blocks(kind, ROWS, COLUMNS, seed=number) for number in range(EXPERTS)]


def node(raw: list[Array], kind: Type = Type.Q4_0, *, gate: int = NONE, threads: int = 1, weighted: bool = False,
         example: Array | None = None, **more: Any) -> OneNode:  # fmt: skip
    stored = raw if kind is Type.F32 else [interleave(one, FILE_TYPES[kind.name]).reshape(-1) for one in raw]
    constants = {"m": np.concatenate([one.reshape(-1).view(np.uint8) for one in stored])}
    examples = {"x": inputs(1, 1) if example is None else example, "e": chosen(1), "w": inputs(1, 1)}
    attributes = {"N": ROWS, "K": COLUMNS, "gate": gate, "experts": EXPERTS, "ggml_type": int(kind)} | more
    return OneNode(
        "MatMulExperts", ["x", "e", "m", *(["w"] if weighted else [])], example=examples, constants=constants,
        threads=threads, **attributes,
    )  # fmt: skip


def alone(raw: Array, kind: Type, gate: int = NONE) -> OneNode:
    """The plain product with one expert's matrix."""
    return OneNode(
        "MatMulBlocks", ["x", "m"], example={"x": inputs(1, 1)},
        constants={"m": interleave(raw, FILE_TYPES[kind.name]).reshape(-1)}, N=ROWS, K=COLUMNS, gate=gate,
        ggml_type=int(kind),
    )  # fmt: skip


@all_kernels
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_result_has_the_bits_of_the_plain_product_with_the_experts_matrix(
    kind: Type, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    raw, x, experts = matrices(kind), inputs(33, COLUMNS), chosen(33)
    (y,) = node(raw, kind)(x=x, e=experts)
    assert y.shape == (33, USED, ROWS)
    for number, matrix in enumerate(raw):
        expected = alone(matrix, kind)(x=x)[0]
        rows, places = np.nonzero(experts == number)
        np.testing.assert_array_equal(y[rows, places], expected[rows])


@pytest.mark.parametrize("gate", [NONE, SILU, GELU])
def test_each_expert_may_have_an_input_of_its_own_and_weights_add_their_results_up(gate: int) -> None:
    raw, experts = matrices(), chosen(9)
    x, weights = inputs(9, USED, COLUMNS * (1 if gate == NONE else 2)), inputs(9, USED, seed=3)
    (y,) = node(raw, gate=gate, weighted=True, example=x)(x=x, e=experts, w=weights)
    parts = np.stack([
        np.stack([alone(raw[expert], Type.Q4_0, gate)(x=x[row, i][None])[0][0] for i, expert in enumerate(of)])
        for row, of in enumerate(experts)
    ])  # fmt: skip
    expected = np.zeros((9, ROWS), np.float32)
    for place in range(USED):
        expected += weights[:, place, None] * parts[:, place]
    np.testing.assert_array_equal(y, expected)


@all_kernels
@pytest.mark.parametrize("gate", [NONE, SILU])
def test_matrices_of_floats_are_multiplied_in_floats(
    gate: int, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    raw = [inputs(ROWS, COLUMNS, seed=number) for number in range(EXPERTS)]
    x, experts = inputs(5, COLUMNS * (1 if gate == NONE else 2)), chosen(5)
    wide = x.astype(np.float64)
    if gate == SILU:
        wide = wide[:, :COLUMNS] / (1 + np.exp(-wide[:, :COLUMNS])) * wide[:, COLUMNS:]
    (y,) = node(raw, Type.F32, gate=gate)(x=x, e=experts)
    expected = np.stack([[raw[e] @ wide[row] for e in of] for row, of in enumerate(experts)])
    np.testing.assert_allclose(y, expected, atol=1e-5 * np.abs(expected).max())
    monkeypatch.setenv("LLMOS_KERNELS", "portable")
    np.testing.assert_array_equal(y, node(raw, Type.F32, gate=gate)(x=x, e=experts)[0])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_float_inputs_are_multiplied_by_what_the_file_says(kind: Type) -> None:
    raw, x, experts = matrices(kind), inputs(4, COLUMNS), chosen(4)
    (y,) = node(raw, kind, float_inputs=1)(x=x, e=experts)
    weights = [gguf.quants.dequantize(one, kind).astype(np.float64) for one in raw]
    expected = np.stack([[weights[e] @ x[row] for e in of] for row, of in enumerate(experts)])
    np.testing.assert_allclose(y, expected, atol=1e-5 * np.abs(expected).max())


@settings(max_examples=25)
@given(st.integers(1, 300), st.integers(1, 4), st.booleans(), st.sampled_from([Type.Q4_K, Type.F32]), st.data())
def test_a_token_has_the_same_bits_alone_in_any_batch_and_on_any_number_of_threads(
    count: int, threads: int, weighted: bool, kind: Type, data: st.DataObject
) -> None:
    raw = [inputs(ROWS, COLUMNS, seed=n) for n in range(EXPERTS)] if kind is Type.F32 else matrices(kind)
    x, experts = inputs(count, COLUMNS), chosen(count)
    weights = {"w": inputs(count, USED, seed=4)} if weighted else {}
    (together,) = node(raw, kind, threads=threads, weighted=weighted)(x=x, e=experts, **weights)
    first = data.draw(st.integers(0, count - 1))
    here = slice(first, data.draw(st.integers(first + 1, min(count, first + 9))))
    few = {name: values[here] for name, values in weights.items()}
    (part,) = node(raw, kind, weighted=weighted)(x=x[here], e=experts[here], **few)
    np.testing.assert_array_equal(part, together[here])


def test_only_matrices_in_use_are_read() -> None:
    """Those of others may hold anything: here what would make every result that it touches no number."""
    raw, x = matrices(), inputs(7, COLUMNS)
    expected = node(raw)(x=x, e=chosen(7))
    raw[EXPERTS - 1] = np.full_like(raw[EXPERTS - 1], 0xFF)  # float16 scales of NaN
    np.testing.assert_array_equal(node(raw)(x=x, e=chosen(7))[0], expected[0])


def test_a_number_that_is_none_spoils_its_token_and_no_other() -> None:
    raw, x, experts = matrices(), inputs(3, COLUMNS), chosen(3)
    (right,) = node(raw)(x=x, e=experts)
    x[1, 40] = np.nan
    (y,) = node(raw)(x=x, e=experts)
    assert not np.isfinite(y[1]).any()
    np.testing.assert_array_equal(y[[0, 2]], right[[0, 2]])


def test_no_tokens_give_no_rows() -> None:
    assert node(matrices())(x=inputs(0, COLUMNS), e=chosen(0))[0].shape == (0, USED, ROWS)


@pytest.mark.parametrize("expert", [-1, EXPERTS, 1 << 40])
def test_an_expert_that_is_not_there_is_an_error_and_not_a_crash(expert: int) -> None:
    experts = chosen(2)
    experts[1, 2] = expert
    with pytest.raises(Exception, match="not below `experts`"):
        node(matrices())(x=inputs(2, COLUMNS), e=experts)


@pytest.mark.parametrize(
    ("x", "change", "said"),
    [
        (inputs(2, 32), {}, "last dimension is not K"),
        (inputs(3, COLUMNS), {}, "not the dimensions of the experts"),
        (inputs(2, COLUMNS), {"experts": 5}, "not the bytes"),
        (inputs(2, COLUMNS), {"N": 16}, "not the bytes"),
        (inputs(2, COLUMNS), {"experts": 0}, "experts must be positive"),
        (inputs(2, COLUMNS), {"ggml_type": 0, "K": 12}, "multiple of 8"),
    ],
)
def test_what_does_not_fit_together_is_an_error_and_not_a_crash(x: Array, change: dict[str, int], said: str) -> None:
    with pytest.raises(Exception, match=said):
        node(matrices(), **change)(x=x, e=chosen(2))


def router(rows: Array, *, used: int, threads: int = 1, **more: int) -> OneNode:
    attributes = {"K": rows.shape[1], "experts": len(rows), "used": used, "scoring": 0, "normalise": 0} | more
    return OneNode(
        "RouteExperts", ["x", "r"], [np.int64, np.float32], example={"x": inputs(1, 1)}, constants={"r": rows},
        threads=threads, **attributes,
    )  # fmt: skip


@all_kernels
@pytest.mark.parametrize("normalise", [0, 1])
@pytest.mark.parametrize(("experts", "used"), [(1, 1), (8, 2), (60, 4), (128, 8), (13, 13)])
def test_a_router_chooses_the_largest_shares_of_softmax(
    experts: int, used: int, normalise: int, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    rows, x = inputs(experts, 64, seed=5), inputs(50, 64)
    found, weights = router(rows, used=used, normalise=normalise)(x=x)
    scores = x.astype(np.float64) @ rows.T
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    expected = np.argsort(-shares, axis=1)[:, :used]
    np.testing.assert_array_equal(found, expected)
    best = np.take_along_axis(shares, expected, axis=1)
    if normalise:
        best /= best.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weights, best, rtol=2e-5, atol=1e-9)
    monkeypatch.setenv("LLMOS_KERNELS", "portable")
    plain = router(rows, used=used, normalise=normalise)(x=x)
    np.testing.assert_array_equal(plain[0], found)
    np.testing.assert_array_equal(plain[1], weights)


def test_a_router_may_score_by_sigmoids() -> None:
    rows, x = inputs(1, 64), inputs(9, 64, seed=7)
    found, weights = router(rows, used=1, scoring=1)(x=x)
    assert not found.any()
    np.testing.assert_allclose(weights, 1 / (1 + np.exp(-(x.astype(np.float64) @ rows.T))), rtol=1e-5)


def test_of_equal_experts_the_first_are_chosen() -> None:
    found, weights = router(np.ones((8, 16), np.float32), used=3)(x=inputs(2, 16))
    np.testing.assert_array_equal(found, [[0, 1, 2]] * 2)
    np.testing.assert_allclose(weights, 1 / 8)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_token_of_no_numbers_has_experts_that_exist_and_spoils_no_other(wrong: float) -> None:
    rows, x = inputs(8, 16), inputs(3, 16)
    right = router(rows, used=3)(x=x)
    x[1, 3] = wrong
    found, weights = router(rows, used=3)(x=x)
    assert ((found >= 0) & (found < 8)).all()
    np.testing.assert_array_equal(found[[0, 2]], right[0][[0, 2]])
    np.testing.assert_array_equal(weights[[0, 2]], right[1][[0, 2]])
    assert not np.isfinite(weights[1]).any()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_token_is_routed_alike_alone_and_in_a_batch(threads: int) -> None:
    rows, x = inputs(128, 512, seed=5), inputs(200, 512)
    found, weights = router(rows, used=8, threads=threads)(x=x)
    for row in (0, 77, 199):
        one, its = router(rows, used=8)(x=x[row : row + 1])
        np.testing.assert_array_equal(one[0], found[row])
        np.testing.assert_array_equal(its[0], weights[row])


@pytest.mark.parametrize(
    ("change", "said"),
    [({"used": 9}, "used must be from 1"), ({"used": 0}, "used must be from 1"), ({"scoring": 2}, "scoring must be"),
     ({"experts": 7}, "a row of K floats"), ({"K": 12}, "multiple of 8")],
)  # fmt: skip
def test_a_router_that_does_not_fit_is_refused(change: dict[str, int], said: str) -> None:
    with pytest.raises(Exception, match=said):
        router(inputs(8, 16), **({"used": 2} | change))(x=inputs(1, 16))
