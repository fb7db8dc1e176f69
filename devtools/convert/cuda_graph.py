"""Gives a version a second graph, in float16, for ONNX Runtime's CUDA provider.

`GroupQueryAttention` has CUDA kernels for float16 and bfloat16 only, so activations, keys and values are float16
there (on a CPU they stay float32: float16 is slow). The graph is the CPU's, node by node, with every float tensor
halved; packed matrices are the same bytes in the same file, so the second graph adds little to the version's size.
Logits come out as float32, as from the CPU's.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from devtools.convert.check import relative_error, run_graph, with_float_activations
from devtools.convert.decoder_version import file_digest
from devtools.convert.head_norms import spell_out_head_norms
from devtools.convert.weight_file import WeightFile
from shared.contracts.manifest import CudaNeed, DecoderSpec, Manifest, ManifestFile, MemoryNeed
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
    check_kernels(model.graph.node)
    half = onnx.ModelProto()
    half.CopyFrom(model)
    with WeightFile(folder / WEIGHTS) as weights:
        _halve(half, folder, weights)
    (folder / GRAPH).write_bytes(half.SerializeToString())
    error = _check(folder, spec)
    files = {file.path: file for file in (*manifest.files, *(_describe(folder / name) for name in (GRAPH, WEIGHTS)))}
    return manifest.model_copy(
        update={
            "files": tuple(files[path] for path in sorted(files)),
            "cuda": CudaNeed(gpu=_need(manifest, (folder / WEIGHTS).stat().st_size), host=HOST),
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


def _halve(model: onnx.ModelProto, folder: Path, weights: WeightFile) -> None:
    graph = model.graph
    for node in graph.node:
        _halve_attributes(node)
    for put in (*graph.input, *graph.output):
        kind = put.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT and put.name != "logits":
            kind.elem_type = TensorProto.FLOAT16
    del graph.value_info[:]
    kept = [tensor for tensor in graph.initializer if tensor.data_type != TensorProto.FLOAT]
    places: dict[tuple[tuple[str, str], ...], str] = {}
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        if tensor.data_location != TensorProto.EXTERNAL:
            kept.append(numpy_helper.from_array(_half(tensor.name, numpy_helper.to_array(tensor)), tensor.name))
            continue
        place = tuple(sorted((entry.key, entry.value) for entry in tensor.external_data))
        if place in places:
            weights.view(tensor.name, places[place], tuple(tensor.dims))
        else:
            places[place] = weights.add(tensor.name, _half(tensor.name, _read(tensor, folder)))
    del graph.initializer[:]
    graph.initializer.extend([*kept, *weights.initializers])
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


def _read(tensor: TensorProto, folder: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    place = {entry.key: entry.value for entry in tensor.external_data}
    return np.memmap(
        folder / place["location"],
        dtype=np.float32,
        mode="r",
        offset=int(place.get("offset", 0)),
        shape=tuple(tensor.dims),
    )


def _half(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float16]]:
    with np.errstate(over="ignore"):
        halved = values.astype(np.float16)
    if not np.isfinite(halved).all():
        raise UnsupportedFormat(
            f"{name!r} has values above 65504, the largest of float16; import this model without --cuda", param="cuda"
        )
    return halved


def _describe(path: Path) -> ManifestFile:
    return ManifestFile(path=path.name, digest=file_digest(path), size=path.stat().st_size)


def _check(folder: Path, spec: DecoderSpec) -> float:
    """The relative error of the new graph's logits, both graphs on the CPU with float activations, as on a GPU."""
    ids = np.random.default_rng(0).integers(0, spec.vocab_size, min(16, spec.context_length))
    whole, half = (
        with_float_activations(onnx.load(folder / name, load_external_data=False)) for name in ("model.onnx", GRAPH)
    )
    expected = run_graph(whole, folder, spec, ids)
    error = relative_error(run_graph(half, folder, spec, ids, cache=np.float16), expected)
    if not error <= TOLERANCE:
        raise UnsupportedFormat(
            f"in float16 the model's logits are off by {error:.2g} of their spread: activations overflow; "
            "import this model without --cuda",
            param="cuda",
        )
    return error


def _need(manifest: Manifest, halved_bytes: int) -> MemoryNeed:
    """What it takes of a GPU: the packed matrices as they are, halved floats, and float16 keys and values."""
    weights = next(file.size for file in manifest.files if file.path == "model.onnx.data")
    memory = manifest.memory
    return MemoryNeed(
        weights=weights + halved_bytes,
        kv_per_token=memory.kv_per_token // 2,
        activations=memory.activations,
        process=CONTEXT,
        per_slot=memory.per_slot // 2,
    )
