"""The check after every import: the built graph against the numpy reference.

Two comparisons, on token ids spread over the vocabulary, read as the engine reads them (a chunk, a second chunk that
attends to the first, one token alone):

- with activations in float32 the graph must agree to rounding: this proves structure, repacking and rotation;
- as it is served (activations in int8 for quantised matrices) it must agree within the noise of int8.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

import operators
from devtools.convert.decoder.architecture import Architecture
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.graph.float_form import with_float_activations
from devtools.convert.source import WeightSource
from devtools.convert.verify.reference import Reference
from shared.contracts.manifest import DecoderSpec
from shared.errors import UnsupportedFormat

TOKENS = 16
_ENDS = (9, 15, 16)
"""Where the chunks end."""
_EXACT_TOLERANCE, _SERVED_TOLERANCE = 1e-3, 0.5
"""Root mean square of the difference over that of the logits (around their mean)."""


def check_graph(
    folder: Path, arch: Architecture, source: WeightSource, *, first: int | None = None
) -> dict[str, float]:
    """Compare `folder/model.onnx` with the reference; returns the measured relative errors of the logits.

    Args:
        folder: Holds the graph.
        arch: What it was built from.
        source: The weights.
        first: The token that begins every text of the model, if one does. Some models (Gemma) attend to it so much
            that without it their activations are far larger than ever in use, and int8 far coarser.

    Raises:
        UnsupportedFormat: the graph does not compute what the file's weights say.
    """
    ids = np.random.default_rng(0).integers(0, arch.vocab_size, min(TOKENS, arch.context_length))
    if first is not None:
        ids[0] = first
    expected = Reference(arch, source).logits(ids.tolist())
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    served = relative_error(run_graph(model, folder, arch, ids), expected)
    exact = relative_error(run_graph(with_float_activations(model), folder, arch, ids), expected)
    if not (exact <= _EXACT_TOLERANCE and served <= _SERVED_TOLERANCE):
        raise UnsupportedFormat(
            f"the built graph does not agree with the file's weights (relative error of the logits {exact:.2g} in"
            f" float32, {served:.2g} as served): nothing was written; please report this file",
            param="source",
        )
    return {"logits_error_float": exact, "logits_error_served": served}


def relative_error(logits: Floats, expected: Floats) -> float:
    """Root mean square of the difference over that of the logits around their mean."""
    spread = expected - expected.mean(axis=-1, keepdims=True)
    return float(np.sqrt(np.mean((logits - expected) ** 2) / np.mean(spread**2)))


def feed_slots(session: onnxruntime.InferenceSession) -> dict[str, NDArray[np.int32]]:
    """The input `slots` for one sequence in the first slot; nothing where a graph has none."""
    return {"slots": np.zeros(1, np.int32)} if operators.takes_slots(session) else {}


def run_graph(
    model: onnx.ModelProto,
    folder: Path,
    arch: Architecture | DecoderSpec,
    ids: np.ndarray[Any, Any],
    *,
    cache: type[np.floating[Any]] = np.float32,
) -> Floats:
    """The logits after each of up to `TOKENS` ids, read in three chunks; `cache` is the type of keys and values."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    operators.register(options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shape = (1, arch.kv_heads, TOKENS, arch.head_dim)
    names = [f"{kind}.{layer}" for layer in range(arch.layers) for kind in ("key", "value")]
    cache_values = {name: np.zeros(shape, cache) for name in names}
    logits = []
    ends = sorted({min(end, len(ids)) for end in _ENDS})
    for start, end in pairwise([0, *ends]):
        new = ids[start:end]
        feeds = {f"past_{name}": cache_values[name] for name in names} | {
            "input_ids": new[None].astype(np.int64),
            **feed_slots(session),
            "seqlens_k": np.array([end - 1], np.int32),
            "total_sequence_length": np.array(end, np.int32),
            "output_index": np.arange(len(new), dtype=np.int64),
        }
        rows, *present = session.run(["logits", *(f"present_{name}" for name in names)], feeds)
        logits.append(rows)
        cache_values = dict(zip(names, present, strict=True))
    return np.concatenate(logits)
