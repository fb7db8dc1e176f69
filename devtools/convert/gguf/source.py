"""A GGUF as a source of weights."""

from devtools.convert.gguf import quants
from devtools.convert.gguf.file import GgufFile, GgufTensor
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.graph.file_matrix import FileMatrix
from devtools.convert.source import Rows
from shared.errors import CorruptFile

_SUFFIX = ".weight"


class GgufSource:
    """The tensors of `gguf`, exactly as they are quantised in the file (a `WeightSource`)."""

    def __init__(self, gguf: GgufFile) -> None:
        self._tensors = {name.removesuffix(_SUFFIX): tensor for name, tensor in gguf.tensors.items()}

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
