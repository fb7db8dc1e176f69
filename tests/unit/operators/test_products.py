"""`MatMulBlocks` and `GatherBlocks` give what their matrices say, and a row the same bits wherever it stands."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.layout import pack, unpack
from tests.support.harness.one_node import Array, OneNode, fast_kernels

NONE, SILU, GELU = 0, 1, 2


@dataclass
class Matrix:
    """Random codes, scales and offsets, and the float weights that they stand for."""

    codes: Array
    scales: Array
    offsets: Array | None
    bits: int

    @property
    def block(self) -> int:
        return int(self.codes.shape[1] // self.scales.shape[1])

    @property
    def weights(self) -> Array:
        scales = np.repeat(self.scales, self.block, axis=1).astype(np.float64)
        if self.offsets is None:
            return scales * (self.codes.astype(np.float64) - (1 << (self.bits - 1)))
        return scales * self.codes + np.repeat(self.offsets, self.block, axis=1)

    @property
    def packed(self) -> Array:
        return pack(self.codes, self.scales, self.offsets, bits=self.bits)

    def attributes(self, gate: int = NONE) -> dict[str, Any]:
        rows, columns = self.codes.shape
        return {
            "N": rows, "K": columns, "bits": self.bits, "block": self.block,
            "offsets": int(self.offsets is not None), "gate": gate,
        }  # fmt: skip


def random_matrix(rows: int, columns: int, *, bits: int, block: int, offsets: bool, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    shape = (rows, columns // block)
    return Matrix(
        rng.integers(0, 1 << bits, (rows, columns)).astype(np.uint8),
        rng.uniform(0.01, 0.02, shape).astype(np.float32),
        rng.normal(0, 0.1, shape).astype(np.float32) if offsets else None,
        bits,
    )


def inputs(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def product(matrix: Matrix, *, gate: int = NONE, bias: Array | None = None, threads: int = 1) -> OneNode:
    names = ["x", "matrix"] if bias is None else ["x", "matrix", "bias"]
    constants = {"matrix": matrix.packed} | ({} if bias is None else {"bias": bias})
    return OneNode(
        "MatMulBlocks", names, example={"x": inputs(1, 1)}, constants=constants, threads=threads,
        **matrix.attributes(gate),
    )  # fmt: skip


def rounded(x: Array, block: int) -> Array:
    """Inputs as the operator sees them: int8 steps of the largest in each block."""
    blocks = x.reshape(len(x), -1, block)
    step = np.abs(blocks).max(axis=-1, keepdims=True) / np.float32(127)
    codes = np.rint(blocks * (np.float32(127) / np.abs(blocks).max(axis=-1, keepdims=True)))
    return (codes.astype(np.float64) * step).reshape(x.shape)


forms = pytest.mark.parametrize(
    ("bits", "block", "offsets"),
    [(bits, block, offsets) for bits in (4, 8) for block in (16, 32) for offsets in (False, True)],
)


@forms
@pytest.mark.parametrize("rows", [1, 16, 40])
def test_a_product_is_that_of_the_weights_with_inputs_in_int8(
    bits: int, block: int, offsets: bool, rows: int
) -> None:
    matrix = random_matrix(rows, 96, bits=bits, block=block, offsets=offsets)
    x, bias = inputs(7, 96), inputs(rows, seed=3)
    (y,) = product(matrix, bias=bias)(x=x)
    expected = rounded(x, block) @ matrix.weights.T + bias
    np.testing.assert_allclose(y, expected, atol=2e-5 * np.abs(expected).max())


@forms
def test_rows_of_a_table_are_its_weights(bits: int, block: int, offsets: bool) -> None:
    matrix = random_matrix(40, 64, bits=bits, block=block, offsets=offsets)
    ids = np.array([[0, 39, 17], [5, 5, 16]])
    node = OneNode(
        "GatherBlocks", ["ids", "matrix"], example={"ids": ids}, constants={"matrix": matrix.packed},
        **matrix.attributes(),
    )  # fmt: skip
    np.testing.assert_allclose(node(ids=ids)[0], matrix.weights[ids], atol=1e-6)


@pytest.mark.parametrize("gate", [SILU, GELU])
def test_a_gate_activates_the_first_half_and_multiplies_it_with_the_second(gate: int) -> None:
    matrix = random_matrix(48, 64, bits=8, block=32, offsets=False)
    x = 3 * inputs(5, 128)
    first, second = x[:, :64].astype(np.float64), x[:, 64:]
    z = first if gate == SILU else 2 * np.sqrt(2 / np.pi) * (first + 0.044715 * first**3)
    (y,) = product(matrix, gate=gate)(x=x)
    expected = first / (1 + np.exp(-z)) * second @ matrix.weights.T
    np.testing.assert_allclose(y, expected, atol=0.02 * np.abs(expected).max())
    (alone,) = product(matrix)(x=(first / (1 + np.exp(-z)) * second).astype(np.float32))
    np.testing.assert_allclose(y, alone, atol=0.005 * np.abs(expected).max())


@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_gates_of_extreme_inputs_are_their_limits(extreme: float) -> None:
    matrix = random_matrix(16, 32, bits=4, block=32, offsets=False)
    x = np.concatenate([np.full((1, 32), extreme), np.ones((1, 32))], axis=1).astype(np.float32)
    (y,) = product(matrix, gate=SILU)(x=x)
    expected = np.full((1, 32), max(extreme, 0.0)) @ matrix.weights.T
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-30)


@settings(max_examples=25)
@given(
    st.integers(1, 300), st.sampled_from([16, 32]), st.sampled_from([4, 8]), st.booleans(), st.integers(1, 4),
    st.data(),
)  # fmt: skip
def test_a_row_has_the_same_bits_alone_in_any_batch_and_on_any_number_of_threads(  # noqa: PLR0917  # drawn
    count: int, block: int, bits: int, offsets: bool, threads: int, data: st.DataObject
) -> None:
    matrix = random_matrix(72, 64, bits=bits, block=block, offsets=offsets)
    x = inputs(count, 64)
    (together,) = product(matrix, threads=threads)(x=x)
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first + 1, min(count, first + 9)))
    (part,) = product(matrix)(x=x[first:last])
    assert np.array_equal(part, together[first:last])


@fast_kernels
@forms
@pytest.mark.parametrize("gate", [NONE, SILU, GELU])
def test_fast_kernels_give_the_bits_of_the_plain_ones(
    bits: int, block: int, offsets: bool, *, gate: int, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = random_matrix(40, 96, bits=bits, block=block, offsets=offsets)
    x = 4 * inputs(31, 96 * (1 if gate == NONE else 2))
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    fast = product(matrix, gate=gate)
    monkeypatch.setenv("LLMOS_KERNELS", "portable")
    plain = product(matrix, gate=gate)
    for rows in [*range(1, 10), 31]:
        assert np.array_equal(fast(x=x[:rows])[0], plain(x=x[:rows])[0])


@fast_kernels
@forms
def test_the_largest_codes_and_inputs_do_not_overflow(
    bits: int, block: int, offsets: bool, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = random_matrix(16, 64, bits=bits, block=block, offsets=offsets)
    matrix.codes[:] = (1 << bits) - 1
    x = np.repeat([[1.0], [-1.0]], 64, axis=1).astype(np.float32)
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    np.testing.assert_allclose(product(matrix)(x=x)[0], x @ matrix.weights.T, rtol=1e-5)


def test_kernels_that_nobody_knows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_KERNELS", "sse2")
    with pytest.raises(Exception, match="none of vnni, avx2, portable"):
        product(random_matrix(16, 32, bits=4, block=32, offsets=False))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_spoils_its_row_and_no_other(wrong: float) -> None:
    matrix = random_matrix(16, 64, bits=4, block=32, offsets=True)
    x = inputs(3, 64)
    (right,) = product(matrix)(x=x)
    x[1, 40] = wrong
    (y,) = product(matrix)(x=x)
    assert not np.isfinite(y[1]).any()
    assert np.array_equal(y[[0, 2]], right[[0, 2]])


def test_zeros_and_the_smallest_numbers_give_zero() -> None:
    matrix = random_matrix(16, 32, bits=8, block=32, offsets=True)
    x = np.zeros((2, 32), np.float32)
    x[1] = 1e-40
    assert not product(matrix)(x=x)[0].any()


def test_no_rows_give_no_rows() -> None:
    matrix = random_matrix(16, 32, bits=4, block=32, offsets=False)
    assert product(matrix)(x=np.zeros((0, 32), np.float32))[0].shape == (0, 16)


@forms
def test_unpacking_gives_back_what_was_packed(bits: int, block: int, offsets: bool) -> None:
    matrix = random_matrix(21, 96, bits=bits, block=block, offsets=offsets)
    codes, scales, constants = unpack(matrix.packed, 21, bits=bits, block=block, offsets=offsets)
    assert np.array_equal(codes, matrix.codes)
    assert np.array_equal(scales, matrix.scales)
    assert (constants is None) == (matrix.offsets is None)
    assert constants is None or np.array_equal(constants, matrix.offsets)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"K": 48}, "multiple of block"),
        ({"N": 0}, "N must be positive"),
        ({"bits": 5}, "bits must be 4 or 8"),
        ({"block": 64}, "block must be 16 or 32"),
        ({"gate": 3}, "gate must be"),
    ],
)
def test_wrong_attributes_are_refused_when_a_graph_is_loaded(change: dict[str, int], said: str) -> None:
    matrix = random_matrix(16, 64, bits=4, block=32, offsets=False)
    attributes = matrix.attributes() | change
    with pytest.raises(Exception, match=said):
        OneNode(
            "MatMulBlocks", ["x", "m"], example={"x": inputs(1, 64)}, constants={"m": matrix.packed}, **attributes
        )


@pytest.mark.parametrize(
    ("x", "change", "said"),
    [
        (inputs(2, 32), {}, "last dimension is not K"),
        (inputs(2, 64), {"gate": SILU}, "last dimension is not K"),
        (inputs(2, 64), {"N": 17}, "not the bytes"),
        (inputs(2, 64), {"bits": 8}, "not the bytes"),
    ],
)
def test_a_matrix_or_an_input_of_another_size_is_an_error_and_not_a_crash(
    x: Array, change: dict[str, int], said: str
) -> None:
    matrix = random_matrix(16, 64, bits=4, block=32, offsets=False)
    node = OneNode(
        "MatMulBlocks", ["x", "m"], example={"x": x}, constants={"m": matrix.packed},
        **(matrix.attributes() | change),
    )  # fmt: skip
    with pytest.raises(Exception, match=said):
        node(x=x)


@pytest.mark.parametrize("ids", [[-1], [16]])
def test_an_id_outside_of_the_table_is_an_error(ids: list[int]) -> None:
    matrix = random_matrix(16, 64, bits=4, block=32, offsets=False)
    node = OneNode(
        "GatherBlocks", ["ids", "m"], example={"ids": np.array(ids)}, constants={"m": matrix.packed},
        **matrix.attributes(),
    )  # fmt: skip
    with pytest.raises(Exception, match="outside of the table"):
        node(ids=np.array(ids))
