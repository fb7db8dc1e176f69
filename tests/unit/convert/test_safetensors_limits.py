import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from devtools.convert.hf.safetensors_file import read_safetensors
from shared.errors import CorruptFile, InvalidInput, NotFound, UnsupportedFormat


def raw_file(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def tensor(shape: list[Any] | Any = (2, 2), offsets: Any = (0, 16), dtype: Any = "F32") -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_values_and_picked_rows_equal_what_the_library_wrote(tmp_path: Path, dtype: Any) -> None:
    matrix = np.random.default_rng(0).standard_normal((6, 5)).astype(dtype)
    save_file({"w": matrix, "v": matrix[0], "empty": matrix[:0]}, tmp_path / "a.safetensors")
    tensors = read_safetensors(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(tensors["w"].values(), matrix.astype(np.float32))
    np.testing.assert_array_equal(tensors["w"].values(np.array([4, 0])), matrix[[4, 0]].astype(np.float32))
    np.testing.assert_array_equal(tensors["v"].values(), matrix[0].astype(np.float32))
    assert tensors["empty"].values().shape == (0, 5)


@given(
    values=hnp.arrays(np.uint16, (3, 4), elements=st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7F80 != 0x7F80))
)
@settings(max_examples=30)
def test_every_bfloat16_is_read_as_the_number_it_is(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("bf16") / "a.safetensors"
    numbers = values.view(ml_dtypes.bfloat16)
    save_file({"w": numbers}, path)
    np.testing.assert_array_equal(read_safetensors(path)["w"].values(), numbers.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"abc", "truncated"),
        (struct.pack("<Q", 2**63) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 1000) + b"{}", "truncated"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
        (struct.pack("<Q", 2) + b"{x", "not JSON"),
        (struct.pack("<Q", 4) + b'"\xff"{', "not JSON"),
        (struct.pack("<Q", 60_000) + b"[" * 60_000, "not JSON"),
        (struct.pack("<Q", 15) + b'{"a":1,"a":[2]}', "twice"),
    ],
)
def test_damaged_header_is_corrupt(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=match):
        read_safetensors(path)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (tensor(offsets=(0, 12)), "can't lie"),
        (tensor(offsets=(16, 0)), "can't lie"),
        (tensor(offsets=(-16, 0)), "can't lie"),
        (tensor(offsets=(8, 24)), "truncated"),
        (tensor(offsets=(2**70, 2**70 + 16)), "truncated"),
        (tensor(offsets=(0, 16, 32)), "unknown way"),
        (tensor(offsets=("0", "16")), "unknown way"),
        (tensor(shape=(2, -2)), "impossible shape"),
        (tensor(shape=(2, True, 2)), "impossible shape"),
        (tensor(shape=(1,) * 9), "impossible shape"),
        (tensor(shape=(2**40, 2**40)), "can't lie"),
        ({"w": 3}, "unknown way"),
        ({"w": {"dtype": "F32", "shape": [1]}}, "unknown way"),
        (tensor(dtype=7), "unknown way"),
    ],
)
def test_impossible_tensor_is_corrupt(tmp_path: Path, header: Any, match: str) -> None:
    with pytest.raises(CorruptFile, match=match):
        read_safetensors(raw_file(tmp_path / "a.safetensors", header, bytes(16)))


def test_truncated_anywhere_is_corrupt_and_never_crashes(tmp_path: Path) -> None:
    save_file({"w": np.ones((4, 4), np.float32), "v": np.ones(3, np.float16)}, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for length in range(len(whole)):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFile, match=r"cut\.safetensors"):
            read_safetensors(path)


@settings(max_examples=150)
@given(data=st.data())
def test_any_change_of_the_header_is_read_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    header = bytearray(json.dumps(tensor()).encode())
    for at in data.draw(st.lists(st.integers(0, len(header) - 1), max_size=3)):
        header[at] = data.draw(st.integers(32, 126))
    path = raw_file(tmp_path_factory.mktemp("fuzz") / "a.safetensors", bytes(header), bytes(16))
    try:
        for read in read_safetensors(path).values():
            read.values()
    except InvalidInput as error:
        assert error.message  # noqa: PT017  # any other exception is the failure


def test_types_without_numbers_we_can_use_are_refused_by_name(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "a.safetensors", tensor(dtype="F8_E4M3", offsets=(0, 4)), bytes(4))
    with pytest.raises(UnsupportedFormat, match="'w' is of type F8_E4M3; supported are F32, F16, BF16"):
        read_safetensors(path)["w"].values()
    with pytest.raises(UnsupportedFormat, match="unknown type 'F7'"):
        read_safetensors(raw_file(path, tensor(dtype="F7"), bytes(16)))


def test_weights_that_are_no_numbers_are_corrupt(tmp_path: Path) -> None:
    save_file({"w": np.array([[1, np.nan]], np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match="'w' holds values that are not finite"):
        read_safetensors(tmp_path / "a.safetensors")["w"].values()


def test_missing_file_and_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        read_safetensors(tmp_path / "none.safetensors")
    with pytest.raises(InvalidInput, match="can't be read"):
        read_safetensors(tmp_path)
