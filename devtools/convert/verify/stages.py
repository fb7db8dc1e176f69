"""Runs a decoder's graph in stages, so that only one is in memory: the embedding, each layer, the head."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

import operators
from devtools.convert.decoder.experts import ROUTED
from devtools.convert.graph.float_form import with_float_activations

TOKENS = 16
_ENDS = (9, 15, 16)
"""Where the chunks end in which tokens are read."""
_LAYER, _HEAD = re.compile(r"blk\.\d+\."), "rows"
"""How the outputs of a layer's nodes begin, and the first output of the nodes behind the last layer."""

Array = np.ndarray[Any, Any]


def stages(model: ModelProto) -> Iterator[ModelProto]:
    """The stages of `model`, in order: graphs that read the model's inputs and what stages before them compute."""
    graph = model.graph
    described = {value.name: value for value in (*graph.input, *graph.output)}
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    element = initializers["output_norm.weight"].data_type

    def value(name: str) -> ValueInfoProto:
        kind = TensorProto.INT64 if name.endswith(ROUTED) else element
        return described.get(name) or helper.make_tensor_value_info(name, kind, None)

    runs = _runs(graph.node)
    for number, run in enumerate(runs):
        made = dict.fromkeys(name for node in run for name in node.output if name)
        read = dict.fromkeys(name for node in run for name in node.input if name and name not in made)
        later = {name for other in runs[number + 1 :] for node in other for name in node.input}
        stage = helper.make_graph(
            run,
            "stage",
            [value(name) for name in read if name not in initializers],
            [value(name) for name in made if name in later or name in described or name.endswith(ROUTED)],
            initializer=[initializers[name] for name in read if name in initializers],
        )
        yield helper.make_model(stage, opset_imports=model.opset_import, ir_version=model.ir_version)


def _runs(nodes: Iterable[NodeProto]) -> list[list[NodeProto]]:
    """Nodes that lie together: those before the first layer, of each layer, and behind the last."""
    runs: list[list[NodeProto]] = [[]]
    current = ""
    for node in nodes:
        found = _LAYER.match(node.output[0])
        name = found[0] if found else _HEAD if node.output[0] == _HEAD else current
        if name != current:
            current = name
            runs.append([])
        runs[-1].append(node)
    return runs


class StagedRun:
    """Reads up to `TOKENS` ids in three chunks, stage by stage.

    Args:
        folder: Holds the graph's external data.
        ids: int64 [S].
        float_activations: Whether inputs of quantised matrices, keys and values stay float32.
    """

    def __init__(self, folder: Path, ids: Array, *, float_activations: bool = False) -> None:
        self._float_activations = float_activations
        self._options = options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if float_activations:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        operators.register(options)
        ends = sorted({min(end, len(ids)) for end in _ENDS})
        self._values = [_inputs(ids, start, end) for start, end in pairwise([0, *ends])]

    def advance(self, stage: ModelProto) -> None:
        """Compute the next stage's outputs from those of the stages before."""
        if self._float_activations:
            stage = with_float_activations(stage)
        session = onnxruntime.InferenceSession(
            stage.SerializeToString(), self._options, providers=["CPUExecutionProvider"]
        )
        given, names = session.get_inputs(), [made.name for made in session.get_outputs()]
        caches = {one.name: _empty_cache(one) for one in given if one.name.startswith("past_")}
        for values in self._values:
            feeds = {one.name: caches[one.name] if one.name in caches else values[one.name] for one in given}
            outputs = dict(zip(names, session.run(names, feeds), strict=True))
            caches = {name: outputs.pop(name.replace("past_", "present_")) for name in caches}
            values.update(outputs)

    def value(self, name: str) -> Array:
        """What the stages computed under `name`, of all tokens: [S, …]."""
        return np.concatenate([values[name].reshape(-1, values[name].shape[-1]) for values in self._values])


def _inputs(ids: Array, start: int, end: int) -> dict[str, Array]:
    return {
        "input_ids": ids[None, start:end].astype(np.int64),
        "slots": np.zeros(1, np.int32),
        "seqlens_k": np.array([end - 1], np.int32),
        "total_sequence_length": np.array(end, np.int32),
        "output_index": np.arange(end - start, dtype=np.int64),
    }


def _empty_cache(described: Any) -> Array:
    """For one sequence; `described` is [slots, kv_heads, max_len, head_dim]."""
    _, heads, _, size = described.shape
    return np.zeros((1, heads, TOKENS, size), np.float16 if "float16" in described.type else np.float32)
