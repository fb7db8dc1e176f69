"""A request's tensors: checked against those of the graph, and as arrays. Pure."""

from collections.abc import Mapping, Sequence

from shared.contracts.tensor import ANY_LENGTH, MAX_TENSOR_BYTES, Infer, Tensor, TensorSpec, TensorType
from shared.errors import InvalidInput, PayloadTooLarge
from shared.tensors import Array, describe, to_array, to_buffer


def read_inputs(spec: TensorSpec, request: Infer) -> dict[str, Array]:
    """The arrays of all inputs, in the order of the graph.

    Raises:
        InvalidInput: One is missing, unknown or given twice, or has another data type or shape; names it, what was
            expected and what came.
    """
    if len(request.buffers) != len(request.inputs):
        raise InvalidInput(f"{len(request.inputs)} inputs came with {len(request.buffers)} buffers", param="inputs")
    given = {tensor.name: (tensor, buffer) for tensor, buffer in zip(request.inputs, request.buffers, strict=True)}
    if len(given) != len(request.inputs):
        names = [tensor.name for tensor in request.inputs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"the input {twice!r:.100} is given twice", param="inputs")
    known = {put.name: put for put in spec.inputs}
    for name in given:
        if name not in known:
            raise InvalidInput(
                f"the model has no input {name!r:.100}; it takes {_listed(spec.inputs)}", param=name[:100]
            )
    for name, put in known.items():
        if name not in given:
            raise InvalidInput(f"the input {name!r} is missing: expected {describe(put)}", param=name)
    return {name: _read(put, *given[name]) for name, put in known.items()}


def rows_of(spec: TensorSpec, inputs: Mapping[str, Array]) -> int | None:
    """Rows of a request, or None where they depend on one another; raises `InvalidInput` where inputs differ."""
    if not spec.batched:
        return None
    rows = {name: len(array) for name, array in inputs.items()}
    first, *others = rows
    for name in others:
        if rows[name] != rows[first]:
            raise InvalidInput(
                f"the input {name!r} has {rows[name]} rows and {first!r} has {rows[first]}; all inputs of this model"
                " have as many",
                param=name,
            )
    return rows[first]


def chosen_outputs(spec: TensorSpec, names: Sequence[str]) -> tuple[str, ...]:
    """The outputs that a request wants; raises `InvalidInput` naming one that there is not."""
    known = [put.name for put in spec.outputs]
    for name in names:
        if name not in known:
            raise InvalidInput(
                f"the model has no output {name!r:.100}; it gives {_listed(spec.outputs)}", param="outputs"
            )
    return tuple(dict.fromkeys(names)) or tuple(known)


def write_outputs(
    spec: TensorSpec, outputs: Mapping[str, Array], names: Sequence[str]
) -> tuple[tuple[Tensor, ...], tuple[bytes, ...]]:
    """Tensors and buffers of the outputs `names`; raises `PayloadTooLarge` above what an answer may have."""
    types = {put.name: put.datatype for put in spec.outputs}
    size = sum(outputs[name].nbytes for name in names)
    buffers: list[bytes] = []
    if size <= MAX_TENSOR_BYTES:
        buffers = [to_buffer(outputs[name]) for name in names]
        size = sum(map(len, buffers))
    if size > MAX_TENSOR_BYTES:
        raise PayloadTooLarge(
            f"the outputs have {size} bytes; at most {MAX_TENSOR_BYTES >> 20} MiB are given: send fewer rows, or name"
            " the outputs that you need",
            param="outputs",
        )
    tensors = tuple(Tensor(name=name, datatype=types[name], shape=outputs[name].shape) for name in names)
    return tensors, tuple(buffers)


def _read(put: TensorType, tensor: Tensor, buffer: bytes) -> Array:
    fits = len(put.shape) == len(tensor.shape) and all(
        length == expected or (expected == ANY_LENGTH and length >= 0)
        for expected, length in zip(put.shape, tensor.shape, strict=True)
    )
    if tensor.datatype != put.datatype or not fits:
        raise InvalidInput(
            f"the input {put.name!r}: expected {describe(put)}, got {describe(tensor):.200}", param=put.name
        )
    return to_array(tensor, buffer)


def _listed(puts: Sequence[TensorType]) -> str:
    shown = ", ".join(f"{put.name} ({describe(put)})" for put in puts[:_SHOWN])
    return shown + (f" and {len(puts) - _SHOWN} others" if len(puts) > _SHOWN else "")


_SHOWN = 16
"""Tensors that a message names."""
