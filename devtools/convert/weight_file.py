"""The external data file of an ONNX model, written tensor by tensor so that only one is in memory at a time."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
from onnx import TensorProto

_ALIGNMENT = 4096
"""Bytes: ONNX Runtime maps initializers from the file where they begin on a page."""


class WeightFile:
    """Appends arrays to `path` and describes each as an initializer of the graph beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.initializers: list[TensorProto] = []
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """Append `values` under `name`; returns the name."""
        values = np.ascontiguousarray(values)
        self._file.write(bytes(-self._file.tell() % _ALIGNMENT))
        self._describe(name, values.dtype, values.shape, self._file.tell(), values.nbytes)
        self._file.write(memoryview(values).cast("B"))
        return name

    def view(self, name: str, of: str, shape: tuple[int, ...]) -> str:
        """A second initializer on the bytes of `of`, with another shape; returns the name."""
        original = next(tensor for tensor in self.initializers if tensor.name == of)
        where = {entry.key: entry.value for entry in original.external_data}
        dtype = onnx.helper.tensor_dtype_to_np_dtype(original.data_type)
        self._describe(name, dtype, shape, int(where["offset"]), int(where["length"]))
        return name

    def _describe(self, name: str, dtype: Any, shape: tuple[int, ...], offset: int, length: int) -> None:
        tensor = TensorProto(
            name=name,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", self.path.name), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        self.initializers.append(tensor)
