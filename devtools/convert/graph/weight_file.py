"""The external data file of an ONNX model, written tensor by tensor so that only one is in memory at a time."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from onnx import TensorProto, helper, numpy_helper

_ALIGNMENT = 4096
"""Bytes: ONNX Runtime maps initializers from the file where they begin on a page."""


def read_initializer(tensor: TensorProto, folder: Path) -> np.ndarray[Any, Any]:
    """The values of an initializer of a graph in `folder`; those that lie in a file are mapped."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    place = {entry.key: entry.value for entry in tensor.external_data}
    return np.memmap(
        folder / place["location"],
        dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type),
        mode="r",
        offset=int(place.get("offset", 0)),
        shape=tuple(tensor.dims),
    )


class WeightFile:
    """Appends arrays to `path` and describes each as an initializer of the graph in the same folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.initializers: list[TensorProto] = []
        self.size = 0
        """Bytes written so far."""
        self._places: dict[str, tuple[int, int]] = {}
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """Append `values` under `name`; returns the name."""
        self._write(name, [values])
        self._describe(name, values.dtype, values.shape, name)
        return name

    def add_pieces(self, name: str, size: int, pieces: Iterable[np.ndarray[Any, Any]]) -> str:
        """Append `pieces`, together `size` bytes, as one vector uint8 [size]; returns the name."""
        self._write(name, pieces)
        assert self._places[name][1] == size, f"{name}: {self._places[name][1]} bytes instead of {size}"
        self._describe(name, np.dtype(np.uint8), (size,), name)
        return name

    def _write(self, name: str, pieces: Iterable[np.ndarray[Any, Any]]) -> None:
        self._file.write(bytes(-self.size % _ALIGNMENT))
        start = self.size + -self.size % _ALIGNMENT
        self.size = start
        for piece in pieces:
            self.size += self._file.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
        self._places[name] = (start, self.size - start)

    def view(self, name: str, of: str, shape: tuple[int, ...]) -> str:
        """A second initializer on the bytes of `of`, of the same type and another shape; returns the name."""
        original = next(tensor for tensor in self.initializers if tensor.name == of)
        self._describe(name, helper.tensor_dtype_to_np_dtype(original.data_type), shape, of)
        return name

    def _describe(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], place: str) -> None:
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        offset, length = self._places[place]
        for key, value in (("location", self.path.name), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        self.initializers.append(tensor)
