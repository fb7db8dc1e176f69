"""Matrices in the bytes of a GGUF: the operators give the bits that LLMOS's own form of the same numbers gives."""

from collections.abc import Iterator
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st

from devtools.convert.graph.block_types import decode
from operators.layout import FILE_TYPES, file_rows, interleave
from tests.support.harness.one_node import Array, OneNode, all_kernels
from tests.support.models.gguf_blocks import HALVES, random_blocks

KINDS = [Type[name] for name in FILE_TYPES]
COLUMNS = 512
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def inputs(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def attributes(kind: Type, rows: int, columns: int = COLUMNS) -> dict[str, Any]:
    return {"N": rows, "K": columns, "ggml_type": int(kind), "gate": 0}


def product(kind: Type, raw: Array, *, threads: int = 1, bias: Array | None = None) -> OneNode:
    """Of the rows `raw`, as they lie in a file."""
    constants = {"m": interleave(raw, FILE_TYPES[kind.name]).reshape(-1)} | ({} if bias is None else {"bias": bias})
    return OneNode(
        "MatMulBlocks", ["x", *constants], example={"x": inputs(1, 1)}, constants=constants, threads=threads,
        **attributes(kind, len(raw)),
    )  # fmt: skip


def product_of_floats(kind: Type, raw: Array, *, bias: Array | None = None) -> OneNode:
    """Of the same numbers in LLMOS's own form, with a float32 scale and offset for each block."""
    matrix = decode(kind, raw)
    constants = {"m": np.concatenate(list(matrix.packed()))} | ({} if bias is None else {"bias": bias})
    return OneNode(
        "MatMulBlocks", ["x", *constants], example={"x": inputs(1, 1)}, constants=constants, gate=0,
        **matrix.attributes,
    )  # fmt: skip


def awkward(kind: Type) -> Iterator[Array]:
    """Rows that fill no group, with the largest codes, with float16 below the normal ones, and negative scales."""
    yield random_blocks(kind, 21, COLUMNS, seed=7)
    size = GGML_QUANT_SIZES[kind][1]
    for byte, halves in ((0xFF, (0.01, 0.02)), (0x7F, (6e-8, 5e-6)), (0x80, (-0.5, 3.0)), (0, (-0.0, 1.0))):
        raw = np.full((16 * COLUMNS // GGML_QUANT_SIZES[kind][0], size), byte, np.uint8)
        for at, half in zip(HALVES[kind], halves, strict=False):
            raw[:, at : at + 2] = np.array([half], "<f2").view(np.uint8)
        yield raw.reshape(16, -1)


@kinds
def test_the_types_are_those_of_the_file(kind: Type) -> None:
    known = FILE_TYPES[kind.name]
    assert (known.columns, known.size) == GGML_QUANT_SIZES[kind]


@kinds
@pytest.mark.parametrize("rows", [1, 16, 37])
def test_bytes_are_put_in_another_order_and_back(kind: Type, rows: int) -> None:
    raw = np.random.default_rng(0).integers(0, 256, random_blocks(kind, rows, 768).shape, dtype=np.uint8)
    packed = interleave(raw, FILE_TYPES[kind.name])
    assert packed.nbytes == -(-rows // 16) * 16 * raw.shape[1]
    np.testing.assert_array_equal(file_rows(packed, rows, FILE_TYPES[kind.name]), raw)


@kinds
def test_rows_of_a_table_are_exactly_those_of_the_file(kind: Type) -> None:
    for raw in awkward(kind):
        ids = np.array([[0, len(raw) - 1, 9], [3, 3, 1]])
        node = OneNode(
            "GatherBlocks", ["ids", "m"], example={"ids": ids},
            constants={"m": interleave(raw, FILE_TYPES[kind.name])}, **attributes(kind, len(raw)),
        )  # fmt: skip
        np.testing.assert_array_equal(node(ids=ids)[0], gguf.quants.dequantize(raw, kind)[ids])


@kinds
@all_kernels
def test_a_product_has_the_bits_of_the_same_numbers_with_float_scales(
    kind: Type, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bias = inputs(21, seed=3)
    monkeypatch.setenv("LLMOS_KERNELS", "portable")
    expected = [product_of_floats(kind, raw, bias=bias[: len(raw)]) for raw in awkward(kind)]
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    nodes = [product(kind, raw, bias=bias[: len(raw)]) for raw in awkward(kind)]
    x = 4 * inputs(31, COLUMNS)
    x[3] = 1.0
    for node, plain in zip(nodes, expected, strict=True):
        for rows in [*range(1, 10), 31]:
            np.testing.assert_array_equal(node(x=x[:rows])[0], plain(x=x[:rows])[0])


@settings(max_examples=20)
@given(st.sampled_from(KINDS), st.integers(1, 300), st.integers(1, 4), st.data())
def test_a_row_has_the_same_bits_alone_in_any_batch_and_on_any_number_of_threads(
    kind: Type, count: int, threads: int, data: st.DataObject
) -> None:
    raw, x = random_blocks(kind, 72, 256), inputs(count, 256)
    constants = {"m": interleave(raw, FILE_TYPES[kind.name])}
    node, alone = (
        OneNode(
            "MatMulBlocks", ["x", "m"], example={"x": x}, constants=constants, threads=number,
            **attributes(kind, 72, 256),
        )
        for number in (threads, 1)
    )  # fmt: skip
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first + 1, min(count, first + 9)))
    assert np.array_equal(alone(x=x[first:last])[0], node(x=x)[0][first:last])


@pytest.mark.parametrize("number", [1, 9, 10, 11, 15, -1])
def test_a_type_without_kernels_is_refused_when_a_graph_is_loaded(number: int) -> None:
    with pytest.raises(Exception, match="ggml_type must be 2, 3, 6"):
        OneNode(
            "MatMulBlocks", ["x", "m"], example={"x": inputs(1, 256)}, constants={"m": np.zeros(16, np.uint8)},
            **(attributes(Type.Q4_K, 16, 256) | {"ggml_type": number}),
        )  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [({"K": 224}, "of 256 with super-blocks"), ({"N": 17}, "not the bytes")])
def test_a_matrix_of_another_size_is_an_error_and_not_a_crash(change: dict[str, int], said: str) -> None:
    raw = random_blocks(Type.Q4_K, 16, 256)
    with pytest.raises(Exception, match=said):
        OneNode(
            "MatMulBlocks", ["x", "m"], example={"x": inputs(1, 256)},
            constants={"m": interleave(raw, FILE_TYPES["Q4_K"])}, **(attributes(Type.Q4_K, 16, 256) | change),
        )(x=inputs(1, 256))  # fmt: skip
