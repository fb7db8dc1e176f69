import gguf
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from devtools.convert.gguf.file import GgufTensor
from devtools.convert.gguf.quants import SUPPORTED, dequantise, pack
from devtools.convert.graph.file_matrix import FileMatrix
from devtools.convert.graph.matrices import Quantised, join
from shared.errors import CorruptFile
from tests.support.models.gguf_blocks import HALVES, random_blocks


def tensor_of(raw: np.ndarray, kind: Type) -> GgufTensor:
    size, size_bytes = GGML_QUANT_SIZES[kind]
    return GgufTensor("w", kind, (raw.shape[0], raw.shape[1] // size_bytes * size), raw)


@st.composite
def raw_blocks(draw: st.DrawFn, kind: Type) -> np.ndarray:
    rows, blocks = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    raw = draw(hnp.arrays(np.uint8, (rows, blocks, GGML_QUANT_SIZES[kind][1])))
    halves = st.floats(-4, 4, width=16)
    for at in HALVES[kind]:
        raw[..., at : at + 2] = draw(hnp.arrays(np.float16, (rows, blocks, 1), elements=halves)).view(np.uint8)
    return raw.reshape(rows, -1)


def test_every_supported_block_type_is_tested() -> None:
    assert {kind.name for kind in HALVES} | {"F32", "F16", "BF16"} == set(SUPPORTED)


@pytest.mark.parametrize("kind", list(HALVES))
@settings(max_examples=12)
@given(data=st.data())
def test_packed_form_holds_exactly_the_weights_of_the_file(kind: Type, data: st.DataObject) -> None:
    raw = data.draw(raw_blocks(kind))
    expected = gguf.quants.dequantize(raw, kind)
    tensor = tensor_of(raw, kind)
    np.testing.assert_array_equal(dequantise(tensor), expected)
    packed = pack(tensor)
    assert isinstance(packed, FileMatrix)
    assert (packed.rows, packed.columns) == tensor.shape
    np.testing.assert_array_equal(packed.dequantise(), expected)


@pytest.mark.parametrize("kind", list(HALVES))
def test_random_blocks_use_every_code_and_rows_can_be_picked(kind: Type) -> None:
    tensor = tensor_of(random_blocks(kind, 24, 512), kind)
    packed = pack(tensor)
    np.testing.assert_array_equal(packed.dequantise(), dequantise(tensor))
    picked = np.array([20, 3, 3])
    np.testing.assert_array_equal(dequantise(tensor, picked), dequantise(tensor)[picked])
    np.testing.assert_array_equal(packed.dequantise(picked), packed.dequantise()[picked])
    assert np.abs(dequantise(tensor)).max() > 0.01


@given(values=hnp.arrays(np.float16, (3, 7), elements=st.floats(-1000, 1000, width=16)))
def test_float16_becomes_the_same_numbers(values: np.ndarray) -> None:
    tensor = GgufTensor("w", Type.F16, (3, 7), values.view(np.uint8))
    np.testing.assert_array_equal(pack(tensor), values.astype(np.float32))


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    values = np.array([[1.0, -2.5, 3.140625, 2.0**100], [0.0, -0.0, 2.0**-120, 7.0]], np.float32)
    raw = (values.view(np.uint32) >> 16).astype("<u2").view(np.uint8)
    np.testing.assert_array_equal(pack(GgufTensor("w", Type.BF16, (2, 4), raw)), values)


@pytest.mark.parametrize("kind", [*HALVES, Type.F16, Type.BF16])
def test_weights_that_are_no_numbers_are_refused(kind: Type) -> None:
    if kind in HALVES:
        raw = random_blocks(kind, 2, 256)
        raw.reshape(-1, GGML_QUANT_SIZES[kind][1])[3 % len(raw), HALVES[kind][0] + 1] = 0x7F
    else:
        raw = np.full((2, 512), 0xFF, np.uint8)
    tensor = GgufTensor("w", kind, (2, 256), raw)
    for use in (pack, dequantise):
        with pytest.raises(CorruptFile, match="'w' holds values that are not finite"):
            use(tensor)


def test_matrices_of_one_form_are_joined_and_others_are_not() -> None:
    forms = {kind: pack(tensor_of(random_blocks(kind, 4, 256), kind)) for kind in HALVES}
    together = [forms[Type.Q4_K], pack(tensor_of(random_blocks(Type.Q4_K, 37, 256, seed=1), Type.Q4_K))]
    ((count, joined),) = join(together)
    assert count == 2
    assert isinstance(joined, Quantised)
    np.testing.assert_array_equal(joined.dequantise(), np.concatenate([m.dequantise() for m in together]))
    np.testing.assert_array_equal(joined.rows_of(slice(3, 7)).dequantise(), joined.dequantise(slice(3, 7)))
    mixed = join([forms[Type.Q4_K], forms[Type.Q4_K], forms[Type.Q6_K]])
    assert [(count, matrix.kind) for count, matrix in mixed] == [(2, Type.Q4_K), (1, Type.Q6_K)]
    assert [count for count, _ in join([forms[Type.Q4_K], forms[Type.Q4_1]])] == [1, 1]
    decoded = [forms[kind].decoded() for kind in (Type.Q4_0, Type.Q4_K, Type.Q4_1)]
    ((count, blocks),) = join(decoded)
    assert count == 3
    np.testing.assert_array_equal(blocks.dequantise(), np.concatenate([m.dequantise() for m in decoded]))
    assert [count for count, _ in join([decoded[0], forms[Type.Q4_0]])] == [1, 1]
    zeros = np.zeros((4, 256), np.float32)
    assert [count for count, _ in join([forms[Type.Q4_0], zeros, forms[Type.Q4_0]])] == [1, 1, 1]
    assert [(count, len(matrix)) for count, matrix in join([zeros, zeros[:2]])] == [(2, 6)]
