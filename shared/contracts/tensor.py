"""What a replica of a graph with named tensors takes and returns. `Cancel` (of `shared.contracts.replica`) drops it.

Types and their names are those of the Open Inference Protocol. A tensor's elements are a buffer: little-endian, row
by row; BYTES are elements of any length, each after its length in four bytes.
"""

from typing import Literal, Self, get_args

from pydantic import Field, ValidationError

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.embedding import EncoderTimings

DataType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]  # fmt: skip
DATA_TYPES: tuple[str, ...] = get_args(DataType)
ANY_LENGTH = -1
"""A dimension that a request chooses."""
MAX_TENSOR_BYTES = 64 << 20
"""Bytes of all tensors of a request, and of all of an answer: a message of the bus carries no more."""
MAX_QUEUED_BYTES = 2 * MAX_TENSOR_BYTES
"""Bytes of the requests that wait at a replica; part of its memory."""
DEFAULT_BATCH = 32
"""Rows that are computed at once by default; the manifest's memory is of so many."""


class TensorType(Contract):
    """A named input or output of a graph."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    """`ANY_LENGTH` where a request chooses."""


class TensorSpec(Contract):
    """What must be known about a graph with named tensors (`model.onnx`)."""

    inputs: tuple[TensorType, ...] = Field(min_length=1)
    outputs: tuple[TensorType, ...] = Field(min_length=1)
    batched: bool = False
    """Whether the first dimension of all tensors is the same number of rows, which do not depend on one another: rows
    of several requests are then computed together."""


class Tensor(Contract):
    """A tensor of a request or of an answer; its elements are one of the message's buffers."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Buffers(Contract):
    """A message with bytes behind its JSON, which base64 would make a third longer."""

    sizes: tuple[int, ...] = ()
    """Bytes of each buffer."""
    buffers: tuple[bytes, ...] = Field(default=(), exclude=True, repr=False)

    def encode(self) -> bytes:
        """The message as JSON, a zero byte, and the buffers one after another."""
        sized = self.model_copy(update={"sizes": tuple(map(len, self.buffers))})
        return b"".join((sized.model_dump_json(exclude_none=True).encode(), b"\0", *self.buffers))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message from its bytes; raises `pydantic.ValidationError`."""
        end = data.find(b"\0")
        head = data if end < 0 else data[:end]
        message = cls.model_validate_json(head)
        at, buffers = len(head) + 1, list[bytes]()
        for size in message.sizes:
            buffers.append(data[at : at + size])
            at += size
        if at != max(len(data), len(head) + 1) or any(size < 0 for size in message.sizes):
            raise ValidationError.from_exception_data(
                cls.__name__,
                [{"type": "value_error", "loc": ("buffers",), "input": len(data), "ctx": {"error": "wrong lengths"}}],
            )
        return message.model_copy(update={"buffers": tuple(buffers)})


class Infer(Buffers):
    """Compute the outputs of a graph. The buffers are those of `inputs`, in order."""

    request_id: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    """Names of the outputs that are wanted. Empty: all."""
    tenant: str = ""
    """Tenants share a replica evenly."""
    time_left_s: float | None = Field(default=None, ge=0)
    """Seconds, from the arrival of this request, after which the answer is of no use. Set at each sending."""


class Inferred(Buffers):
    """The outputs; the buffers are theirs, in order."""

    version: int
    """Of the model that computed them."""
    outputs: tuple[Tensor, ...]
    rows: int = 1
    """That were computed for this request."""
    timings: EncoderTimings = EncoderTimings()


class Described(TensorSpec):
    """The tensors of a replica's version."""

    version: int


def infer_endpoint(replica_id: str) -> Endpoint[Infer, Inferred]:
    """`infer` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.infer", Infer, Inferred)


def describe_endpoint(replica_id: str) -> Endpoint[Empty, Described]:
    """`describe` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.describe", Empty, Described)


TensorType.EXAMPLE = TensorType(name="x", datatype="FP32", shape=(ANY_LENGTH, 4))
TensorSpec.EXAMPLE = TensorSpec(
    inputs=(TensorType.EXAMPLE,),
    outputs=(TensorType(name="label", datatype="INT64", shape=(ANY_LENGTH,)),),
    batched=True,
)
Tensor.EXAMPLE = Tensor(name="x", datatype="FP32", shape=(1, 2))
Buffers.EXAMPLE = Buffers(sizes=(3,), buffers=(b"\0\1\0",))
Infer.EXAMPLE = Infer(request_id="infer-1", inputs=(Tensor.EXAMPLE,), sizes=(8,), buffers=(b"\0" * 8,))
Inferred.EXAMPLE = Inferred(
    version=3, outputs=(Tensor(name="label", datatype="INT64", shape=(1,)),), sizes=(8,), buffers=(b"\1" + b"\0" * 7,)
)
Described.EXAMPLE = Described(version=3, **dict(TensorSpec.EXAMPLE))
