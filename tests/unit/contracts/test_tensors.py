"""Tensors as buffers: what a buffer may be, and what is wrong with another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.tensor import Buffers, Tensor
from shared.errors import InvalidInput, PayloadTooLarge
from shared.tensors import DTYPES, pack, to_array, to_buffer, unpack


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_buffers_survive_the_wire(buffers):
    found = Buffers.decode(Buffers(buffers=tuple(buffers)).encode())
    assert list(found.buffers) == buffers


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:20]])
def test_a_message_that_is_cut_or_too_long_is_refused(change):
    with pytest.raises(ValidationError):
        Buffers.decode(change(Buffers(buffers=(b"abc", b"defgh")).encode()))


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BYTES"])
def test_arrays_survive(datatype):
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[datatype])
    found = to_array(Tensor(name="x", datatype=datatype, shape=(2, 3)), to_buffer(array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(st.lists(st.text(max_size=20), max_size=6))
def test_texts_survive(texts):
    array = np.array(texts, object)
    found = to_array(Tensor(name="x", datatype="BYTES", shape=(len(texts),)), to_buffer(array))
    assert found.tolist() == texts


@pytest.mark.parametrize(
    ("datatype", "shape", "buffer", "part"),
    [
        ("FP32", (2,), b"\0" * 7, "has 7 bytes; FP32 \\[2\\] has 8"),
        ("FP32", (-1,), b"", "expected up to 32 lengths of 0 or more"),
        ("FP32", (1,) * 33, b"\0" * 4, "expected up to 32 lengths"),
        ("FP99", (1,), b"", "datatype 'FP99'; known are BOOL"),
        ("BF16", (1,), b"\0\0", "datatype 'BF16'"),
        ("BOOL", (2,), b"\1\2", "has the byte 2"),
        ("BYTES", (1,), pack([b"ab"])[:-1], "element 0 is cut off"),
        ("BYTES", (2,), pack([b"ab"]) + b"\1\0", "element 1 is cut off"),
        ("BYTES", (2,), pack([b"ab"]), "has 1 elements; BYTES \\[2\\] has 2"),
        ("BYTES", (1,), pack([b"ab", b"c"]), "has more than the 1 elements of BYTES \\[1\\]"),
        ("BYTES", (1 << 21,), b"", "at most 1048576 are taken"),
        ("BYTES", (1,), pack([b"\xff"]), "element 0 is no text in UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_the_tensors_name(datatype, shape, buffer, part):
    with pytest.raises(InvalidInput, match=part) as caught:
        to_array(Tensor(name="the_tensor", datatype=datatype, shape=shape), buffer)
    assert "'the_tensor'" in caught.value.message


def test_a_tensor_above_the_bound_is_refused_before_anything_is_made():
    with pytest.raises(PayloadTooLarge, match="at most 64 MiB"):
        to_array(Tensor(name="x", datatype="INT64", shape=(1 << 30, 1 << 30)), b"")


def test_elements_that_are_no_text_are_bytes():
    assert unpack(Tensor(name="x", datatype="BYTES", shape=(2,)), pack([b"\xff\0", b""])) == [b"\xff\0", b""]
