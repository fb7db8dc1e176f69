"""A BERT's tensors under the names that transformers gives those of `BertModel`, in float32, in the graph's form."""

from collections.abc import Mapping

from devtools.convert.graph.block_matrix import Floats
from devtools.convert.hf.safetensors_file import SafeTensor
from shared.errors import CorruptFile, UnsupportedFormat

_PREFIXES = ("bert.", "roberta.", "model.")
_UNUSED = ("embeddings.position_ids", "embeddings.token_type_ids", "cls.", "lm_head.")
"""Buffers, and the heads of pretraining: no part of what is computed here."""
_HEAD = ("pooler.", "classifier.")
"""The classifier's: an embedding does not use it."""


class EncoderWeights:
    """Tensors by name; every one that is asked for is counted, so that none is left out by mistake."""

    def __init__(self, tensors: Mapping[str, SafeTensor]) -> None:
        self._tensors = {_plain(name): tensor for name, tensor in tensors.items()}
        self._used: set[str] = set()

    def matrix(self, name: str, shape: tuple[int, ...]) -> Floats:
        """A tensor as it is; raises `CorruptFile` if it is missing or of another shape."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise CorruptFile(f"the tensor {name!r} is missing", param="source")
        if tensor.shape != shape:
            raise CorruptFile(f"the tensor {name!r} has shape {tensor.shape}, expected {shape}", param="source")
        self._used.add(name)
        return tensor.values()

    def vector(self, name: str, length: int) -> Floats:
        """A bias or a scale."""
        return self.matrix(name, (length,))

    def linear(self, name: str, inputs: int, outputs: int) -> Floats:
        """The matrix of a linear layer, `[inputs, outputs]`: `x @ matrix`."""
        return self.matrix(f"{name}.weight", (outputs, inputs)).T

    def check_all_used(self, *, head: bool) -> None:
        """Raise `UnsupportedFormat` if a tensor was not asked for that changes what the model computes."""
        unused = (*_UNUSED, *(() if head else _HEAD))
        for name in sorted(set(self._tensors) - self._used):
            if not name.startswith(unused):
                raise UnsupportedFormat(
                    f"the tensor {name!r} is no part of a plain BERT; not supported", param="source"
                )


def _plain(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
