"""The check after every import: the built graph against the numpy reference.

Two comparisons, on token ids spread over the vocabulary, read as the engine reads them (a chunk, a second chunk that
attends to the first, one token alone). Reference and graphs advance together, a layer at a time, so that memory does
not grow with the model; where a router's choice is a matter of rounding, the reference takes that of the graph:

- with activations in float32 the graph must agree to rounding: this proves structure, repacking and rotation;
- as it is served (activations in int8 for quantised matrices) it must agree within the noise of int8.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder.experts import ROUTED
from devtools.convert.decoder.graph import written_shares
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.source import WeightSource
from devtools.convert.verify.reference import Chosen, Reference
from devtools.convert.verify.stages import TOKENS, StagedRun, stages
from shared.errors import UnsupportedFormat

_EXACT_TOLERANCE, _SERVED_TOLERANCE = 1e-3, 0.5
"""Root mean square of the difference over that of the logits (around their mean)."""


def check_graph(
    folder: Path,
    arch: Architecture,
    source: WeightSource,
    *,
    first: int | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> dict[str, float]:
    """Compare `folder/model.onnx` with the reference; returns the measured relative errors of the logits.

    Args:
        folder: Holds the graph.
        arch: What it was built from.
        source: The weights.
        first: The token that begins every text of the model, if one does. Some models (Gemma) attend to it so much
            that without it their activations are far larger than ever in use, and int8 far coarser.
        on_progress: Called with the fraction that is done.

    Raises:
        UnsupportedFormat: the graph does not compute what the file's weights say.
    """
    ids = np.random.default_rng(0).integers(0, arch.vocab_size, min(TOKENS, arch.context_length))
    if first is not None:
        ids[0] = first
    as_served, in_floats = StagedRun(folder, ids), StagedRun(folder, ids, float_activations=True)
    reference = _Routed(arch, source, in_floats).layers(ids.tolist())
    shares = written_shares(source, arch)
    for number, stage in enumerate(stages(onnx.load(folder / "model.onnx", load_external_data=False))):
        for run in (as_served, in_floats):
            run.advance(stage)
        expected: Floats = next(reference)  # first the embedding, last the logits
        on_progress(shares[number])
    served, exact = (relative_error(run.value("logits"), expected) for run in (as_served, in_floats))
    if not (exact <= _EXACT_TOLERANCE and served <= _SERVED_TOLERANCE):
        raise UnsupportedFormat(
            f"the built graph does not agree with the file's weights (relative error of the logits {exact:.2g} in"
            f" float32, {served:.2g} as served): nothing was written; please report this file",
            param="source",
        )
    return {"logits_error_float": exact, "logits_error_served": served}


class _Routed(Reference):
    """A reference whose tokens go through the experts that a graph chose, where those are as good up to rounding.

    Of two experts with nearly equal shares, rounding decides which is chosen, and the results are far apart.
    """

    def __init__(self, arch: Architecture, source: WeightSource, graph: StagedRun) -> None:
        super().__init__(arch, source)
        self._graph = graph

    def _chosen(self, name: str, shares: Floats, used: int) -> Chosen:
        ours, theirs = super()._chosen(name, shares, used), self._graph.value(f"{name}{ROUTED}")
        best, found = (np.sort(np.take_along_axis(shares, chosen, axis=-1)) for chosen in (ours, theirs))
        as_good = (np.abs(found - best) <= _EXACT_TOLERANCE * best).all(axis=-1, keepdims=True)
        return np.where(as_good, theirs, ours)


def relative_error(logits: Floats, expected: Floats) -> float:
    """Root mean square of the difference over that of the logits around their mean."""
    spread = expected - expected.mean(axis=-1, keepdims=True)
    return float(np.sqrt(np.mean((logits - expected) ** 2) / np.mean(spread**2)))
