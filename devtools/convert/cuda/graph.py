"""Gives a version a second graph, in float16, for ONNX Runtime's CUDA provider.

`GroupQueryAttention` has CUDA kernels for float16 and bfloat16 only, so activations, keys and values are float16
there (on a CPU they stay float32: float16 is slow). The graph is the CPU's, node by node, with LLMOS's own operators
spelled out in ONNX Runtime's, which read a matrix in another form, and with every float tensor halved. So its weights
are a file of their own. Logits come out as float32, as from the CPU's.
"""

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from devtools.convert.cuda.head_norms import spell_out_head_norms
from devtools.convert.cuda.runtime_attention import spell_out_attention
from devtools.convert.decoder_version import describe_file
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.graph.runtime_form import spell_out_blocks
from devtools.convert.graph.weight_file import WeightFile, read_initializer
from devtools.convert.verify.check import relative_error
from devtools.convert.verify.stages import StagedRun, stages
from shared.contracts.manifest import CudaNeed, DecoderSpec, Manifest, MemoryNeed
from shared.errors import InvalidInput, UnsupportedFormat

GRAPH, WEIGHTS = "model.cuda.onnx", "model.cuda.onnx.data"
TOLERANCE = 0.05
"""Of the logits, against the float32 graph, both on the CPU; SmolLM2 in Q4_1 has 0.012."""
CONTEXT = 800_000_000
"""Bytes of a GPU that CUDA, cuBLAS and cuDNN take before a tensor is made. Estimated: it was never measured."""
HOST = 2_000_000_000
"""Bytes of the host's memory beside them. Estimated, too: the libraries alone are 1.5 GB on disk."""
_MICROSOFT = "com.microsoft"
_KERNELS = {
    # ONNX Runtime, docs/OperatorKernels.md: "Operators implemented by CUDAExecutionProvider" for tensor(float16).
    "": {
        "Add", "AveragePool", "Cast", "Concat", "Expand", "Gather", "Identity", "MatMul", "Mul", "Reshape", "Sigmoid",
        "SimplifiedLayerNormalization", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
    },
    _MICROSOFT: {
        "FastGelu", "GatherBlockQuantized", "Gelu", "GroupQueryAttention", "MatMulNBits", "QuickGelu",
        "RotaryEmbedding", "SkipSimplifiedLayerNormalization",
    },
}  # fmt: skip


def add_cuda_graph(folder: Path, manifest: Manifest) -> Manifest:
    """Write the graph for CUDA beside a decoder's; returns the manifest with it.

    Args:
        folder: The version's files.
        manifest: Describes them.

    Raises:
        InvalidInput: The version is no decoder.
        UnsupportedFormat: A node has no CUDA kernel for float16, or a weight is too large for it.
    """
    spec = manifest.decoder
    if spec is None:
        raise InvalidInput("only decoders can have a graph for CUDA; import this model without --cuda", param="cuda")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    spell_out_head_norms(model)
    spell_out_attention(model)
    matrices = spell_out_blocks(model)
    check_kernels(model.graph.node)
    with _HalvedFile(folder / WEIGHTS) as weights:
        for matrix in matrices:
            matrix.write(folder, weights)
        _halve(model, folder, weights)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    error = _check(folder, spec)
    files = {
        file.path: file for file in (*manifest.files, *(describe_file(folder / name) for name in (GRAPH, WEIGHTS)))
    }
    return manifest.model_copy(
        update={
            "files": tuple(files[path] for path in sorted(files)),
            "cuda": CudaNeed(gpu=_need(manifest.memory, model.graph), host=HOST + manifest.memory.grammars),
            "metrics": manifest.metrics | {"logits_error_half": error},
        }
    )


def check_kernels(nodes: Iterable[NodeProto]) -> None:
    """Raise UnsupportedFormat unless the CUDA provider computes every node in float16."""
    missing = sorted({node.op_type for node in nodes if node.op_type not in _KERNELS.get(node.domain, ())})
    if missing:
        raise UnsupportedFormat(
            f"ONNX Runtime has no CUDA kernel for float16 of {', '.join(missing)}; import this model without --cuda",
            param="cuda",
        )


class _HalvedFile(WeightFile):
    """A weight file with floats in float16."""

    def add(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """See `WeightFile.add`. Raises UnsupportedFormat for a value that float16 does not hold."""
        return super().add(name, _half(name, values) if values.dtype == np.float32 else values)


def _halve(model: onnx.ModelProto, folder: Path, weights: _HalvedFile) -> None:
    """Make every float tensor float16 and move to `weights` what lies in another file."""
    graph = model.graph
    for node in graph.node:
        _halve_attributes(node)
    for put in (*graph.input, *graph.output):
        kind = put.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT and put.name != "logits":
            kind.elem_type = TensorProto.FLOAT16
    del graph.value_info[:]
    initializers: list[TensorProto] = []
    places: dict[tuple[tuple[str, str], ...], str] = {}
    for tensor in graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            initializers.append(_halved(tensor) if tensor.data_type == TensorProto.FLOAT else tensor)
            continue
        place = tuple(sorted((entry.key, entry.value) for entry in tensor.external_data))
        if place in places:
            weights.view(tensor.name, places[place], tuple(tensor.dims))
        else:
            places[place] = weights.add(tensor.name, read_initializer(tensor, folder))
    del graph.initializer[:]
    graph.initializer.extend([*initializers, *weights.initializers])
    _widen_logits(graph)


def _halve_attributes(node: NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16


def _widen_logits(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "logits.half"
    graph.node.append(
        helper.make_node("Cast", ["logits.half"], ["logits"], name="logits.widened", to=TensorProto.FLOAT)
    )


def _halved(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(_half(tensor.name, numpy_helper.to_array(tensor)), tensor.name)


def _half(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float16]]:
    with np.errstate(over="ignore"):
        halved = values.astype(np.float16)
    if not np.isfinite(halved).all():
        raise UnsupportedFormat(
            f"{name!r} has values above 65504, the largest of float16; import this model without --cuda", param="cuda"
        )
    return halved


def _check(folder: Path, spec: DecoderSpec) -> float:
    """The relative error of the new graph's logits, both graphs on the CPU with float activations, as on a GPU."""
    ids = np.random.default_rng(0).integers(0, spec.vocab_size, min(16, spec.context_length))
    half, expected = (_logits(folder, name, ids) for name in (GRAPH, "model.onnx"))
    error = relative_error(half, expected)
    if not error <= TOLERANCE:
        raise UnsupportedFormat(
            f"in float16 the model's logits are off by {error:.2g} of their spread: activations overflow; "
            "import this model without --cuda",
            param="cuda",
        )
    return error


def _logits(folder: Path, graph: str, ids: np.ndarray[Any, Any]) -> Floats:
    run = StagedRun(folder, ids, float_activations=True)
    for stage in stages(onnx.load(folder / graph, load_external_data=False)):
        run.advance(stage)
    return run.value("logits")


def _need(on_cpu: MemoryNeed, graph: onnx.GraphProto) -> MemoryNeed:
    """What it takes of a GPU.

    Every initializer is copied there, also a second one on the same bytes of the file (ONNX Runtime,
    session_state_utils.cc). `MatMulNBits` with more than a few rows multiplies by floats that it makes of the whole
    matrix first (matmul_nbits.cc): the largest one adds to the activations.
    """
    unpacked = (
        helper.get_node_attr_value(node, "N") * helper.get_node_attr_value(node, "K")
        for node in graph.node
        if node.op_type == "MatMulNBits"
    )
    return MemoryNeed(
        weights=sum(_bytes(tensor) for tensor in graph.initializer),
        kv_per_token=on_cpu.kv_per_token,
        activations=on_cpu.activations + np.dtype(np.float16).itemsize * max(unpacked, default=0),
        process=CONTEXT,
        per_slot=on_cpu.per_slot // 2,
    )


def _bytes(tensor: TensorProto) -> int:
    return prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
