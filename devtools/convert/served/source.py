"""The weights of a version, read from its graph's data file where they are asked for (a `WeightSource`)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from onnx import ModelProto

from devtools.convert.graph.block_matrix import Floats
from devtools.convert.graph.matrices import Matrix, Quantised, stored_matrix
from devtools.convert.graph.weight_file import read_initializer
from devtools.convert.served.places import Place
from devtools.convert.source import Rows
from shared.errors import CorruptFile


class ServedSource:
    """The tensors of a graph.

    Args:
        model: The graph, without its external data.
        folder: With the data.
        places: Of the matrices, by canonical name.
    """

    def __init__(self, model: ModelProto, folder: Path, places: Mapping[str, Place]) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._folder = folder
        self._places = places
        norms = [
            name.removesuffix(".weight")
            for name in self._tensors
            if name.endswith("norm.weight") and name.startswith(("blk.", "output_norm"))
        ]
        biases = [f"{name}.bias" for name, place in places.items() if place.bias and self._bias(place).any()]
        self._names = (*places, *norms, *biases)

    def names(self) -> tuple[str, ...]:
        """Every tensor, by its canonical name."""
        return self._names

    def has(self, name: str) -> bool:
        """Whether there is a tensor `name`."""
        return name in self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """Row-major: a matrix is [output features, input features]."""
        place = self._places.get(name)
        if place is None:
            return tuple(self.vector(name).shape)
        if place.form is not None:
            return (place.stop - place.start, place.form["K"])
        dims = self._tensors[place.weight].dims
        return (place.stop - place.start, int(dims[0] if place.transposed else dims[1]))

    def type_name(self, name: str) -> str:
        """`Q4_K`, `int4`, `F32`."""
        place = self._places.get(name)
        if place is None or place.form is None:
            return "F32"
        kind = place.form.get("ggml_type")
        return f"int{place.form['bits']}" if kind is None else GGMLQuantizationType(kind).name

    def matrix(self, name: str) -> Matrix:
        """The matrix as the graph multiplies by it."""
        place = self._place(name)
        if place.form is None:
            return np.ascontiguousarray(self._floats(place))
        return self._blocks(place)

    def vector(self, name: str) -> Floats:
        """A norm's weight or a bias, float32."""
        if name.endswith(".bias"):
            return self._bias(self._place(name.removesuffix(".bias")))
        tensor = self._tensors.get(f"{name}.weight")
        if tensor is None:
            raise CorruptFile(f"the graph has no tensor {name!r}", param="source")
        return np.array(read_initializer(tensor, self._folder), np.float32)

    def dequantise(self, name: str, rows: Rows = slice(None)) -> Floats:
        """`rows` of the tensor as float32."""
        if name not in self._places:
            return self.vector(name)[rows]
        matrix = self.matrix(name)
        return matrix.dequantise(rows) if isinstance(matrix, Quantised) else matrix[rows]

    def _place(self, name: str) -> Place:
        place = self._places.get(name)
        if place is None:
            raise CorruptFile(f"the graph has no matrix {name!r}", param="source")
        return place

    def _blocks(self, place: Place) -> Quantised:
        """The rows of the place."""
        assert place.form is not None
        packed = read_initializer(self._tensors[place.weight], self._folder)
        return stored_matrix(packed, place.form).rows_of(slice(place.start, place.stop))

    def _floats(self, place: Place) -> Floats:
        stored = read_initializer(self._tensors[place.weight], self._folder)
        matrix = stored.T if place.transposed else stored
        return np.asarray(matrix[place.start : place.stop], np.float32)

    def _bias(self, place: Place) -> Floats:
        if place.bias is None:
            raise CorruptFile(f"the graph has no bias for {place.weight!r}", param="source")
        stored = read_initializer(self._tensors[place.bias], self._folder)
        return np.array(stored[place.start : place.stop], np.float32)
