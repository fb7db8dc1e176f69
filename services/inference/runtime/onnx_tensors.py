"""A graph with named tensors (`TensorSpec`) on ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.inference.runtime.session import open_session
from shared.contracts.tensor import TensorSpec
from shared.errors import CorruptFile, InvalidInput
from shared.tensors import Array

GRAPH_FILE = "model.onnx"


class OnnxTensors:
    """Implements `services.inference.tensor.graph.TensorGraph`.

    Args:
        folder: The version's files.
        spec: Describes `model.onnx` in it.
        threads: Threads of a run (the grant).

    Raises:
        NotFound: There is no graph.
        CorruptFile: It can't be loaded, or is not what the spec says.
    """

    def __init__(self, folder: Path, spec: TensorSpec, *, threads: int) -> None:
        self._session = open_session(folder / GRAPH_FILE, threads=threads)
        for kind, expected, found in (
            ("inputs", spec.inputs, self._session.get_inputs()),
            ("outputs", spec.outputs, self._session.get_outputs()),
        ):
            names, there = {put.name for put in expected}, {put.name for put in found}
            if names != there:
                raise CorruptFile(
                    f"{GRAPH_FILE} has the {kind} {sorted(there)}, but the manifest says {sorted(names)}; import the"
                    " model again"
                )

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The outputs of these names.

        Raises:
            InvalidInput: The graph does not take the inputs, such as an index out of bounds.
        """
        try:
            found = self._session.run(list(outputs), dict(inputs))
        except Exception as error:  # onnxruntime raises a dozen classes without a common base
            reason = " ".join(str(error).split())
            raise InvalidInput(f"the model can't compute this: {reason:.400}", param="inputs") from error
        return dict(zip(outputs, found, strict=True))

    def close(self) -> None:
        """Give the session's memory back."""
        del self._session
