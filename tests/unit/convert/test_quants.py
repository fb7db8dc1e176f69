import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from devtools.convert.gguf_file import GgufTensor
from devtools.convert.quants import BlockMatrix, dequantise, pack

BLOCK_BYTES = {Type.Q4_0: 18, Type.Q4_1: 20, Type.Q8_0: 34}


def tensor_of(raw: np.ndarray, kind: Type) -> GgufTensor:
    columns = raw.shape[1] // BLOCK_BYTES[kind] * 32
    return GgufTensor("w", kind, (raw.shape[0], columns), raw)


@st.composite
def raw_blocks(draw: st.DrawFn, kind: Type) -> np.ndarray:
    rows, blocks = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    raw = draw(hnp.arrays(np.uint8, (rows, blocks, BLOCK_BYTES[kind])))
    halves = st.floats(-4, 4, width=16)
    for at in (0, 2) if kind is Type.Q4_1 else (0,):
        raw[..., at : at + 2] = draw(hnp.arrays(np.float16, (rows, blocks, 1), elements=halves)).view(np.uint8)
    return raw.reshape(rows, -1)


@pytest.mark.parametrize("kind", list(BLOCK_BYTES))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_packed_form_holds_exactly_the_weights_of_the_file(kind: Type, data: st.DataObject) -> None:
    raw = data.draw(raw_blocks(kind))
    expected = gguf.quants.dequantize(raw, kind)
    tensor = tensor_of(raw, kind)
    np.testing.assert_array_equal(dequantise(tensor), expected)
    packed = pack(tensor)
    assert isinstance(packed, BlockMatrix)
    assert (packed.rows, packed.columns) == tensor.shape
    # (q - 8) * d + (m + 8d) is q * d + m up to float32 rounding of the sum.
    np.testing.assert_allclose(packed.dequantise(), expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q8_0])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_types_without_offset_are_bit_exact(kind: Type, data: st.DataObject) -> None:
    tensor = tensor_of(data.draw(raw_blocks(kind)), kind)
    np.testing.assert_array_equal(pack(tensor).dequantise(), dequantise(tensor))


@given(values=hnp.arrays(np.float16, (3, 7), elements=st.floats(-1000, 1000, width=16)))
def test_float16_becomes_the_same_numbers(values: np.ndarray) -> None:
    tensor = GgufTensor("w", Type.F16, (3, 7), values.view(np.uint8))
    np.testing.assert_array_equal(pack(tensor), values.astype(np.float32))
