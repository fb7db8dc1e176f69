"""The architecture of a version's graph: sizes from its spec, the rest from nodes and constants."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto, NodeProto, helper, numpy_helper

from devtools.convert.decoder.architecture import Activation, Architecture, LayerAttention
from devtools.convert.decoder.block_linear import GATES
from devtools.convert.decoder.rope import Rope
from devtools.convert.graph.weight_file import read_initializer
from devtools.convert.served.rotation import read_rope
from shared.contracts.manifest import DecoderSpec
from shared.errors import CorruptFile


def read_architecture(model: ModelProto, folder: Path, spec: DecoderSpec) -> Architecture:
    """The architecture that the graph was built from; whether the head is tied depends on weights, and is left False.

    Args:
        model: The graph, without its external data.
        folder: With the data.
        spec: Of the version's manifest.

    Raises:
        CorruptFile: The graph is not one that LLMOS builds.
    """
    nodes = {node.output[0]: node for node in model.graph.node}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    ropes: dict[str, Rope] = {}

    def rope(name: str) -> Rope:
        if name not in ropes:
            tables = [read_initializer(tensors[f"rope.{name}.{part}"], folder) for part in ("cos", "sin")]
            ropes[name] = read_rope(name, *tables)
        return ropes[name]

    attention = tuple(_layer(_node(nodes, f"blk.{layer}.attention"), rope) for layer in range(spec.layers))
    first = _attributes(_node(nodes, "blk.0.attention"))
    scale = float(first["scale"])
    sandwich = "blk.0.post_attention_norm.weight" in tensors
    qk_norm = "blk.0.attn_q_norm.weight" in tensors
    biased = _has_bias(nodes, "blk.0.qkv")
    return Architecture(
        family=_family(sandwich=sandwich, qk_norm=qk_norm, biased=biased, attention=attention),
        hidden_size=spec.hidden_size,
        feed_forward_size=_wide(nodes, tensors),
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        vocab_size=spec.vocab_size,
        context_length=spec.context_length,
        norm_epsilon=_shortest(float(_attributes(_node(nodes, "blk.0.attn_in"))["epsilon"])),
        rotary_interleaved=bool(first["rotary_interleaved"]),
        attention=attention,
        tied_head=False,
        qkv_bias=biased,
        qk_norm=qk_norm,
        sandwich_norms=sandwich,
        activation=_activation(nodes),
        embedding_scale=_embedding_scale(tensors),
        attention_scale=None if abs(scale - spec.head_dim**-0.5) < 1e-6 else scale,
    )


def _layer(node: NodeProto, rope: Any) -> LayerAttention:
    window = int(_attributes(node)["local_window_size"])
    cosines = next((name for name in node.input if name.startswith("rope.")), None)
    return LayerAttention(
        rope=rope(cosines.split(".")[1]) if cosines else None, window=window if window > 0 else None
    )


def _wide(nodes: Mapping[str, NodeProto], tensors: Mapping[str, Any]) -> int:
    """Input features of the last product of the feed-forward block."""
    node = _node(nodes, "blk.0.down")
    while node.op_type == "Add":
        node = _node(nodes, node.input[0])
    if node.op_type == "MatMulBlocks":
        return int(_attributes(node)["K"])
    return int(tensors[node.input[1]].dims[0])


def _activation(nodes: Mapping[str, NodeProto]) -> Activation:
    node = _node(nodes, "blk.0.down")
    if node.op_type == "MatMulBlocks":
        gate = _attributes(node)["gate"]
        return next(activation for activation, number in GATES.items() if number == gate and activation is not None)
    return Activation.SILU if "blk.0.down.gate.silu" in nodes else Activation.GELU_TANH


def _embedding_scale(tensors: Mapping[str, Any]) -> float:
    scale = tensors.get("embedding_scale")
    return 1.0 if scale is None else float(numpy_helper.to_array(scale))


def _has_bias(nodes: Mapping[str, NodeProto], output: str) -> bool:
    return any(node.op_type == "Add" or len(node.input) > 2 for node in _products(nodes, output))


def _products(nodes: Mapping[str, NodeProto], output: str) -> Iterator[NodeProto]:
    node = _node(nodes, output)
    if node.op_type == "Concat":
        for part in node.input:
            yield from _products(nodes, part)
    else:
        yield node


def _family(*, sandwich: bool, qk_norm: bool, biased: bool, attention: tuple[LayerAttention, ...]) -> str:
    """The family whose form this is; the graph keeps the form only.

    A graph does not say whether it was a Mistral or a Llama: they compute the same.
    """
    if sandwich:
        return "gemma3"
    if qk_norm:
        return "qwen3"
    if biased:
        return "qwen2"
    return "smollm3" if any(layer.rope is None for layer in attention) else "llama"


def _node(nodes: Mapping[str, NodeProto], output: str) -> NodeProto:
    try:
        return nodes[output]
    except KeyError:
        raise CorruptFile(
            f"the graph has no node {output!r}: another version of LLMOS built it; import the model again",
            param="source",
        ) from None


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _shortest(value: float) -> float:
    """The decimal number of which `value` is the float32: 1e-5, not 9.999999747378752e-06."""
    return float(f"{value:.6g}")
