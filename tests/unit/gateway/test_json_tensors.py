"""Tensors as lists in JSON."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.open_inference.json_tensors import from_json, to_json
from shared.contracts.tensor import Tensor
from shared.errors import InvalidInput
from shared.tensors import DTYPES, pack, to_array


def tensor(datatype, *shape):
    return Tensor(name="x", datatype=datatype, shape=shape)


@given(
    st.sampled_from([name for name in DTYPES if "INT" in name]),
    st.integers(0, 3),
    st.integers(1, 3),
    st.data(),
    st.booleans(),
)
def test_whole_numbers_come_back(datatype, rows, columns, data, flat):
    bounds = np.iinfo(DTYPES[datatype])
    row = st.lists(st.integers(int(bounds.min), int(bounds.max)), min_size=columns, max_size=columns)
    given_rows = data.draw(st.lists(row, min_size=rows, max_size=rows))
    listed = [number for row in given_rows for number in row] if flat else given_rows
    about = tensor(datatype, rows, columns)
    buffer = from_json(about, listed)
    assert to_array(about, buffer).tolist() == given_rows
    answered = orjson.loads(orjson.dumps(to_json(about, buffer), option=orjson.OPT_SERIALIZE_NUMPY))
    assert answered == [number for row in given_rows for number in row]


def test_floats_bools_and_texts_come_back():
    for datatype, given_list in (
        ("FP16", [0.5, -2]),
        ("FP32", [1e-30, 3]),
        ("FP64", [1e300, -0.1]),
        ("BOOL", [True, False]),
        ("BYTES", ["zoë", ""]),
    ):
        about = tensor(datatype, 2)
        answered = to_json(about, from_json(about, given_list))
        assert np.allclose(answered, given_list, rtol=1e-6) if datatype != "BYTES" else answered == given_list


@pytest.mark.parametrize(
    ("about", "data", "part"),
    [
        (tensor("INT8", 2), [1, 128], "no INT8"),
        (tensor("UINT8", 1), [-1], "no UINT8"),
        (tensor("INT64", 1), [1 << 63], "no INT64"),
        (tensor("INT64", 1), [1.0], "of the type float; those of INT64 are whole numbers"),
        (tensor("INT64", 1), [True], "of the type bool"),
        (tensor("FP32", 1), [None], "of the type NoneType; those of FP32 are numbers"),
        (tensor("BOOL", 1), [1], "those of BOOL are true or false"),
        (tensor("BYTES", 1), [7], "those of BYTES are strings"),
        (tensor("FP16", 1), [1e6], "too large for FP16"),
        (tensor("FP32", 2, 2), [[1, 2], [3]], "lists of other lengths"),
        (tensor("FP32", 2, 2), [[1, 2], 3], "nested in another way"),
        (tensor("FP32", 2), [[1], [2]], "nested in another way"),
        (tensor("FP32", 3), [1, 2], "has 2 elements; FP32 \\[3\\] has 3"),
    ],
)
def test_what_is_wrong_is_named(about, data, part):
    with pytest.raises(InvalidInput, match=part) as caught:
        from_json(about, data)
    assert "the input 'x'" in caught.value.message


def test_json_has_no_form_for_some_outputs():
    for about, buffer in (
        (tensor("FP32", 1), np.array([np.inf], "<f4").tobytes()),
        (tensor("BYTES", 1), pack([b"\xff"])),
    ):
        with pytest.raises(InvalidInput, match="binary_data"):
            to_json(about, buffer)
