"""Made-up inputs for a graph with named tensors: the same at its import and at each start of a replica. Pure."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from shared.contracts.tensor import ANY_LENGTH, TensorSpec, TensorType
from shared.tensors import DTYPES, Array

NUMBERS = 8
"""Of each output that are compared."""


def sample_inputs(spec: TensorSpec, length: int, *, rows: int) -> dict[str, Array]:
    """Inputs by name.

    Floats lie between -1 and 1; whole numbers are 0 or 1, which most graphs take for whatever they stand for.

    Args:
        spec: The graph's.
        length: Of each dimension that a request chooses.
        rows: The same of the first dimension, where it is chosen.
    """
    return {put.name: _sample(put, index, length, rows) for index, put in enumerate(spec.inputs)}


def _sample(put: TensorType, index: int, length: int, rows: int) -> Array:
    chosen = (rows if at == 0 else length for at in range(len(put.shape)))
    shape = tuple(pick if given == ANY_LENGTH else given for given, pick in zip(put.shape, chosen, strict=True))
    places = np.arange(math.prod(shape)).reshape(shape)
    if put.datatype.startswith("FP"):
        waves: Array = np.sin(0.7 * places + index)
        return waves.astype(DTYPES[put.datatype])
    bits: Array = np.sin(1.3 * places + index) > 0
    return (
        bits.astype(np.int8).astype(str).astype(object)
        if put.datatype == "BYTES"
        else bits.astype(DTYPES[put.datatype])
    )


def first_numbers(outputs: Mapping[str, Array], names: Sequence[str]) -> tuple[float, ...]:
    """The first numbers of each output, for `SmokeTest.output`."""
    flat = [outputs[name].ravel()[:NUMBERS] for name in names if outputs[name].dtype.kind in "biuf"]
    return tuple(round(float(number), 5) for numbers in flat for number in numbers)
