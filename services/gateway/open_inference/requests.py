"""Bodies of requests: JSON with elements in lists, or behind the JSON as bytes (Triton's binary tensor data)."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.http.body import parse_body
from services.gateway.http.parameters import Parameters
from services.gateway.open_inference.json_tensors import from_json
from shared.contracts.tensor import Tensor
from shared.errors import InvalidInput

HEAD_LENGTH = "Inference-Header-Content-Length"
"""The header with the bytes of the JSON, where elements are behind it."""
BINARY_SIZE, BINARY, ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"
MAX_TENSORS = 256
_CONTENT_TYPE = {"content_type": "a tensor is what its datatype says"}

REQUEST = Parameters(
    refused={
        **dict.fromkeys(("sequence_id", "sequence_start", "sequence_end", "priority"), (0, False)),
        "timeout": (0,),
    }
)
"""Of `parameters` beside `binary_data_output`."""
INPUT = Parameters(
    ignored=_CONTENT_TYPE,
    refused=dict.fromkeys(("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"), ()),
)
"""Of an input's `parameters` beside `binary_data_size`."""
OUTPUT = Parameters(ignored=_CONTENT_TYPE, refused={**INPUT.refused, "classification": (0,)})
"""Of an output's `parameters` beside `binary_data`."""
PARAMETERS = Parameters(
    ignored={
        f"{place}.parameters.content_type": why for place in ("inputs", "outputs") for why in _CONTENT_TYPE.values()
    },
    refused={
        **{f"parameters.{name}": off for name, off in REQUEST.refused.items()},
        **{f"inputs.parameters.{name}": off for name, off in INPUT.refused.items()},
        **{f"outputs.parameters.{name}": off for name, off in OUTPUT.refused.items()},
    },
)
"""All of them, for the table of parameters."""


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class InputBody(_Body):
    """An input."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] | None = None


class OutputBody(_Body):
    """An output that is wanted."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferBody(_Body):
    """The body of `/v2/models/{model}/infer`."""

    id: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: Annotated[tuple[InputBody, ...], Field(min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[tuple[OutputBody, ...], Field(max_length=MAX_TENSORS)] = ()

    def binary(self, output: str) -> bool:
        """Whether an output is wanted as bytes."""
        for each in self.outputs:
            if each.name == output and BINARY in each.parameters:
                return bool(each.parameters[BINARY])
        return bool(self.parameters.get(ALL_BINARY, False))

    def buffers(self, raw: bytes) -> tuple[tuple[Tensor, ...], tuple[bytes, ...]]:
        """The inputs with their elements.

        Args:
            raw: What is behind the JSON.

        Raises:
            InvalidInput: An input's elements are missing, given twice, or wrong; names it.
            PayloadTooLarge: A tensor is larger than a request may be.
        """
        tensors, buffers, at = [], [], 0
        for put in self.inputs:
            tensor = Tensor(name=put.name, datatype=put.datatype, shape=put.shape)
            size = put.parameters.get(BINARY_SIZE)
            if (size is None) == (put.data is None):
                given = "neither" if size is None else "both"
                raise InvalidInput(
                    f"the input {put.name!r:.100} has {given} of data and the parameter {BINARY_SIZE}; expected one",
                    param=put.name[:100],
                )
            if put.data is not None:
                buffer = from_json(tensor, put.data)
            elif type(size) is int and 0 <= size <= len(raw) - at:
                buffer = raw[at : at + size]
                at += size
            else:
                raise InvalidInput(
                    f"the input {put.name!r:.100} has the {BINARY_SIZE} {size!r:.40}, and behind the JSON"
                    f" {len(raw) - at} bytes are left",
                    param=put.name[:100],
                )
            tensors.append(tensor)
            buffers.append(buffer)
        if at != len(raw):
            raise InvalidInput(f"{len(raw) - at} bytes behind the JSON belong to no input", param="inputs")
        return tuple(tensors), tuple(buffers)


def parse_infer(body: bytes) -> InferBody:
    """The request in a JSON body; raises `InvalidInput` naming the parameter that is wrong or not supported."""
    request = parse_body(InferBody, body)
    check_parameters(request.parameters, REQUEST, "parameters", bools=(ALL_BINARY,))
    for put in request.inputs:
        check_parameters(put.parameters, INPUT, "inputs.parameters", others=(BINARY_SIZE,))
    for out in request.outputs:
        check_parameters(out.parameters, OUTPUT, "outputs.parameters", bools=(BINARY,))
    return request


def check_parameters(
    given: dict[str, Any], known: Parameters, place: str, *, bools: tuple[str, ...] = (), others: tuple[str, ...] = ()
) -> None:
    """Raise `InvalidInput` for a parameter that is unknown or not supported.

    Args:
        given: The parameters.
        known: Those that have no effect, or are refused.
        place: What the error calls them.
        bools: Those that are served, and are true or false.
        others: Those that are served, and checked elsewhere.
    """
    for name, value in given.items():
        param = f"{place}.{name}"[:200]
        if name in bools:
            if not isinstance(value, bool):
                raise InvalidInput(f"{param} is {value!r:.40}; expected true or false", param=param)
        elif name not in others:
            known.check(name, value, param)
