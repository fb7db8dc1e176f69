"""Runs a graph on made-up inputs: whether it runs, whether rows are independent, and what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from shared.contracts.tensor import TensorSpec
from shared.errors import UnsupportedFormat
from shared.sample_tensors import sample_inputs
from shared.tensors import DTYPES, Array

LENGTHS = (8, 1, 32, 3, 224)
"""Tried one after another for the dimensions that a request chooses."""
ROWS = 3
_TOLERANCE = 1e-4
"""Relative; larger batches are multiplied in another order."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a graph did.

    Attributes:
        length: Of the dimensions that a request chooses, with which it ran.
        outputs: For one row.
        rows: Whether each row of a batch gets what it gets alone.
        problem: Why it did not run, or why rows are not independent; empty: neither.
    """

    length: int = 0
    outputs: Mapping[str, Array] | None = None
    rows: bool = False
    problem: str = ""


def try_graph(folder: Path, spec: TensorSpec) -> Trial:
    """Run the graph `model.onnx` in `folder`.

    A graph that takes none of the made-up inputs is no error: some take only what means something.

    Raises:
        UnsupportedFormat: ONNX Runtime can't load it.
    """
    session = _open(folder)
    problem = ""
    for length in LENGTHS:
        try:
            alone = _run(session, spec, sample_inputs(spec, length, rows=1))
        except Exception as error:  # noqa: BLE001  # onnxruntime raises a dozen classes without a common base
            problem = problem or f"it does not take made-up inputs: {_first_line(error)}"
            continue
        found = _dependence(session, spec, length) if spec.batched else ""
        return Trial(length, alone, rows=spec.batched and not found, problem=found)
    return Trial(problem=problem)


def _dependence(session: onnxruntime.InferenceSession, spec: TensorSpec, length: int) -> str:
    """How a row's outputs depend on the rows beside it; empty if they do not."""
    inputs = sample_inputs(spec, length, rows=ROWS)
    try:
        together = _run(session, spec, inputs)
        for row in range(ROWS):
            alone = _run(session, spec, {name: array[row : row + 1] for name, array in inputs.items()})
            for name, array in together.items():
                if len(array) != ROWS or len(alone[name]) != 1:
                    return f"the output {name!r} has {len(array)} rows for {ROWS}"
                if not _same(array[row : row + 1], alone[name]):
                    return f"a row of the output {name!r} depends on the rows beside it"
    except Exception as error:  # noqa: BLE001  # as above
        return f"it does not take {ROWS} rows: {_first_line(error)}"
    return ""


def _same(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    return bool(np.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True))


def _run(session: onnxruntime.InferenceSession, spec: TensorSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = [put.name for put in spec.outputs]
    outputs: dict[str, Array] = dict(zip(names, session.run(names, dict(inputs)), strict=True))
    for put in spec.outputs:
        array = outputs[put.name]
        if array.ndim != len(put.shape) or (put.datatype != "BYTES" and array.dtype != DTYPES[put.datatype]):
            message = f"the output {put.name!r} is {array.dtype} of shape {list(array.shape)}, not as the file says"
            raise ValueError(message)
    return outputs


def _open(folder: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise UnsupportedFormat(f"ONNX Runtime can't load the graph: {error}", param="source") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:300]
