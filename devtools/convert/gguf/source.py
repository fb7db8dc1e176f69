"""A GGUF as a source of weights."""

from dataclasses import replace

from devtools.convert.decoder.architecture import MAX_EXPERTS
from devtools.convert.gguf import quants
from devtools.convert.gguf.file import GgufFile, GgufTensor
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.graph.file_matrix import FileMatrix
from devtools.convert.source import Rows
from shared.errors import CorruptFile

_SUFFIX = ".weight"
_STACKED, _SHARED_GATE = "_exps", ".ffn_gate_inp_shexp"


class GgufSource:
    """The tensors of `gguf`, exactly as they are quantised in the file (a `WeightSource`).

    The matrices of experts that a file has in one tensor, `blk.3.ffn_gate_exps`, are `blk.3.ffn_gate.0` and so on, as
    files have them that are older than that.
    """

    def __init__(self, gguf: GgufFile) -> None:
        self._tensors: dict[str, GgufTensor] = {}
        for name, tensor in gguf.tensors.items():
            for part, matrix in _parts(name.removesuffix(_SUFFIX), tensor).items():
                if part in self._tensors:
                    raise CorruptFile(f"{tensor.name!r} and another tensor are both {part!r}", param="source")
                self._tensors[part] = matrix

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
        """The GGUF type."""
        return str(self._tensor(name).type.name)

    def matrix(self, name: str) -> FileMatrix | Floats:
        """The matrix without rounding; float32 for F32, F16 and BF16."""
        return quants.pack(self._tensor(name))

    def vector(self, name: str) -> Floats:
        """The tensor as float32."""
        return quants.dequantise(self._tensor(name))

    def dequantise(self, name: str, rows: Rows = slice(None)) -> Floats:
        """`rows` of the tensor as float32, by the definition of its type."""
        return quants.dequantise(self._tensor(name), rows)

    def _tensor(self, name: str) -> GgufTensor:
        if name not in self._tensors:
            raise CorruptFile(f"the tensor {name + _SUFFIX!r} is missing", param="source")
        return self._tensors[name]


def _parts(name: str, tensor: GgufTensor) -> dict[str, GgufTensor]:
    """The matrices of a tensor by their canonical names: one, or those of all experts."""
    if name.endswith(_SHARED_GATE) and len(tensor.shape) == 1:
        return {name: replace(tensor, shape=(1, *tensor.shape), raw=tensor.raw[None])}
    if not name.endswith(_STACKED):
        return {name: tensor}
    if len(tensor.shape) != 3 or tensor.shape[0] > MAX_EXPERTS:
        raise CorruptFile(
            f"the tensor {tensor.name!r} has shape {tensor.shape}, expected experts (up to {MAX_EXPERTS}), rows and"
            " columns",
            param="source",
        )
    return {
        f"{name.removesuffix(_STACKED)}.{number}": replace(
            tensor, name=f"{tensor.name}[{number}]", shape=tensor.shape[1:], raw=tensor.raw[number]
        )
        for number in range(tensor.shape[0])
    }
