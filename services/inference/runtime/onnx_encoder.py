"""An encoder graph (`EncoderSpec`) on ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.inference.encoder.pooling import normalized, pool, rows_of
from services.inference.encoder.request import TokenRow
from services.inference.runtime.session import open_session
from shared.contracts.manifest import EncoderSpec
from shared.errors import CorruptFile

GRAPH_FILE = "model.onnx"


class OnnxEncoder:
    """Implements `services.inference.encoder.graph.EncoderGraph`.

    Args:
        folder: The version's files.
        spec: Describes `model.onnx` in it.
        threads: Threads of a batch (the grant).

    Raises:
        NotFound: There is no graph.
        CorruptFile: It can't be loaded, or is not what the spec says.
    """

    def __init__(self, folder: Path, spec: EncoderSpec, *, threads: int) -> None:
        self._session = open_session(folder / GRAPH_FILE, threads=threads)
        self._spec = spec
        expected, found = set(spec.inputs), {put.name for put in self._session.get_inputs()}
        if expected != found:
            raise CorruptFile(
                f"{GRAPH_FILE} has the inputs {sorted(found)}, but the manifest says {sorted(expected)};"
                " import the model again"
            )
        if spec.output not in {put.name for put in self._session.get_outputs()}:
            raise CorruptFile(f"{GRAPH_FILE} has no output {spec.output!r}; import the model again")

    def run(self, rows: Sequence[TokenRow]) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        """One pooled and, if the spec says so, normalised vector per row: float32 `[rows, output_size]`.

        Of a classifier of tokens float32 `[tokens, output_size]` per row.
        """
        lengths = np.array([len(row) for row in rows], np.int64)
        if self._spec.pooling == "tokens":
            return rows_of(self.states(rows), lengths)
        vectors = pool(self.states(rows), lengths, self._spec.pooling)
        return normalized(vectors) if self._spec.normalize else vectors

    def states(self, rows: Sequence[TokenRow]) -> NDArray[np.float32]:
        """The graph's output: float32 `[rows, tokens, output_size]`, or `[rows, output_size]` if it pools itself."""
        lengths = np.array([len(row) for row in rows], np.int64)
        shape = (len(rows), int(lengths.max()))
        mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
        feeds = {name: self._feed(name, rows, mask) for name in self._spec.inputs}
        states: NDArray[np.float32] = self._session.run([self._spec.output], feeds)[0]
        expected = 2 if self._spec.pooling == "none" else 3
        if states.ndim != expected or states.shape[0] != len(rows) or states.shape[-1] != self._spec.output_size:
            raise CorruptFile(
                f"{GRAPH_FILE} answers shape {states.shape} for {len(rows)} texts; the manifest says"
                f" {expected} dimensions, the last of {self._spec.output_size}"
            )
        return states

    def close(self) -> None:
        """Give the session's memory back."""
        del self._session

    def _feed(self, name: str, rows: Sequence[TokenRow], mask: NDArray[np.int64]) -> NDArray[np.int64]:
        if name == "attention_mask":
            return mask
        if name == "position_ids":
            return np.broadcast_to(np.arange(mask.shape[1]) + self._spec.position_offset, mask.shape).copy()
        feed = np.full(mask.shape, self._spec.pad_token_id if name == "input_ids" else 0, np.int64)
        for index, row in enumerate(rows):
            values = row.ids if name == "input_ids" else row.type_ids
            if values is not None:
                feed[index, : len(row)] = values
        return feed
