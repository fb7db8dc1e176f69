"""Computes a batch in one run of the graph; where that fails, each request alone, so that only wrong ones fail."""

from collections.abc import Sequence

import numpy as np

from services.inference.tensor.batcher import Outcome, TensorBatch
from services.inference.tensor.graph import TensorGraph
from services.inference.tensor.request import TensorRequest
from shared.errors import InvalidInput
from shared.tensors import Array


def compute(graph: TensorGraph, batch: TensorBatch, *, max_batch: int) -> list[Outcome]:
    """What the graph gives for each request, or what is wrong with it."""
    try:
        return list(_together(graph, batch.requests, max_batch))
    except InvalidInput as error:
        if len(batch.requests) == 1:
            return [error]
    return [compute(graph, TensorBatch((request,)), max_batch=max_batch)[0] for request in batch.requests]


def _together(graph: TensorGraph, requests: Sequence[TensorRequest], max_batch: int) -> list[dict[str, Array]]:
    first = requests[0]
    if first.rows is None:
        return [graph.run(first.inputs, first.outputs)]
    inputs = {name: _joined([request.inputs[name] for request in requests]) for name in first.inputs}
    rows = sum(request.rows or 0 for request in requests)
    parts = [
        graph.run({name: array[start : start + max_batch] for name, array in inputs.items()}, first.outputs)
        for start in range(0, max(1, rows), max_batch)
    ]
    outputs = {name: _joined([part[name] for part in parts]) for name in first.outputs}
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise InvalidInput(f"the output {name!r} has {len(array)} rows for {rows}; import the model again")
    found, at = [], 0
    for request in requests:
        end = at + (request.rows or 0)
        found.append({name: array[at:end] for name, array in outputs.items()})
        at = end
    return found


def _joined(arrays: Sequence[Array]) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    try:
        return np.concatenate(arrays)
    except ValueError as error:  # an output's other lengths go by what is in the rows
        raise InvalidInput(f"the rows of this request give outputs of several shapes: {error}") from error
