"""The safetensors of a Hugging Face model as a source of weights."""

from collections.abc import Mapping

import numpy as np

from devtools.convert.graph.block_matrix import Floats
from devtools.convert.hf.names import canonical_name
from devtools.convert.hf.safetensors_file import SafeTensor
from devtools.convert.source import Rows
from shared.errors import CorruptFile


class SafetensorsSource:
    """Float32 weights under GGUF's names (a `WeightSource`); rows of query and key lie as the files have them.

    Args:
        tensors: By the names in the files.
        four_norms: Whether each layer has norms after attention and MLP too (Gemma 3).
        norms_from_zero: Whether norms are stored less one (Gemma); they come out with it, as in a GGUF.
        tied_head: Whether logits are made with the embedding's matrix: one of the head's own is ignored then.
    """

    def __init__(
        self,
        tensors: Mapping[str, SafeTensor],
        *,
        four_norms: bool = False,
        norms_from_zero: bool = False,
        tied_head: bool = False,
    ) -> None:
        self._norms_from_zero = norms_from_zero
        self._tensors: dict[str, SafeTensor] = {}
        for stored, tensor in tensors.items():
            name = canonical_name(stored, four_norms=four_norms)
            if name is None or (tied_head and name == "output"):
                continue
            if name in self._tensors:
                raise CorruptFile(
                    f"the tensors {self._tensors[name].name!r} and {stored!r} are the same part of the model",
                    param="source",
                )
            self._tensors[name] = tensor

    def names(self) -> tuple[str, ...]:
        """Every tensor, by its canonical name."""
        return tuple(self._tensors)

    def has(self, name: str) -> bool:
        """Whether there is a tensor `name`."""
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Row-major: a matrix is [output features, input features]."""
        return self._tensor(name).shape

    def type_name(self, name: str) -> str:
        """`F32`, `F16` or `BF16`."""
        return self._tensor(name).type

    def matrix(self, name: str) -> Floats:
        """The matrix as float32 [N, K]."""
        return self.dequantise(name)

    def vector(self, name: str) -> Floats:
        """The tensor as float32."""
        return self.dequantise(name)

    def dequantise(self, name: str, rows: Rows = slice(None)) -> Floats:
        """`rows` of the tensor as float32."""
        values = self._tensor(name).values(rows)
        if self._norms_from_zero and name.endswith("norm"):
            values = values + np.float32(1)
        return values

    def _tensor(self, name: str) -> SafeTensor:
        if name not in self._tensors:
            raise CorruptFile(f"the tensor {name!r} (by its GGUF name) is missing", param="source")
        return self._tensors[name]
