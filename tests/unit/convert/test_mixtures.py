"""Mixtures of experts: what their files may say, how they are stored, and that the check finds what is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert.cuda.graph import check_kernels
from devtools.convert.decoder.architecture import Architecture, Experts
from devtools.convert.graph.weight_file import read_initializer
from devtools.convert.hf.architecture import read_config
from devtools.convert.memory_need import memory_need
from devtools.convert.quantise.source import QuantisedSource
from devtools.convert.served.version import read_graph
from devtools.convert.source import WeightSource
from devtools.convert.verify.check import check_graph
from devtools.convert.verify.reference import Reference
from shared.errors import InvalidInput, UnsupportedFormat
from tests.support.models.family_files import build, open_directory, open_gguf, write_directory, write_gguf
from tests.support.models.tiny_families import IDS, MIXTURES, Array, random_weights


def directory(
    tmp_path: Path, name: str, weights: dict[str, Array] | None = None, **changes: Any
) -> tuple[Architecture, WeightSource]:
    config = MIXTURES[name] | changes
    return open_directory(write_directory(tmp_path / "hf", config, weights or random_weights(MIXTURES[name])))


def gguf_file(tmp_path: Path, name: str, quantization: Type = Type.F32, **more: Any) -> Path:
    return write_gguf(tmp_path / "m.gguf", MIXTURES[name], random_weights(MIXTURES[name]), quantization, **more)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("mixtral", {"num_experts_per_tok": 7}, "'num_experts_per_tok' is 7; .* at most 'num_local_experts', 6"),
        ("qwen3_moe", {"num_experts": 100_000}, "'num_experts' is 100,000; up to 1,024"),
        ("qwen3_moe", {"num_experts_per_tok": 0}, "'num_experts_per_tok' has the impossible value 0"),
        ("qwen2_moe", {"moe_intermediate_size": -1}, "'moe_intermediate_size'"),
        ("qwen2_moe", {"norm_topk_prob": "yes"}, "'norm_topk_prob'"),
        ("qwen3_moe", {"mlp_only_layers": "all"}, "'mlp_only_layers'"),
        ("qwen3_moe", {"decoder_sparse_step": 0}, "'decoder_sparse_step'"),
        ("qwen3_moe", {"num_experts": 9}, r"'blk\.0\.ffn_gate\.8\.weight' is missing \(the model has 9 experts\)"),
        ("olmoe", {"num_experts": 7}, r"the model has 7 experts"),
        ("qwen3_moe", {"moe_intermediate_size": 64}, r"'blk\.0\.ffn_\w+\.\d\.weight' has shape"),
        ("olmoe", {"clip_qkv": 8.0}, "clamped attention"),
        ("qwen2_moe", {"use_sliding_window": True, "sliding_window": 4}, "Qwen2-MoE with 'use_sliding_window'"),
    ],
)  # fmt: skip
def test_directories_that_contradict_themselves_are_refused_by_the_field(
    tmp_path: Path, name: str, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        directory(tmp_path, name, **changes)


@pytest.mark.parametrize(
    ("name", "metadata", "says"),
    [
        ("mixtral", {"expert_used_count": 7}, "'llama.expert_used_count' is 7; .* at most 'llama.expert_count', 6"),
        ("qwen3_moe", {"expert_count": 0}, "'qwen3moe.expert_count' has the impossible value 0"),
        ("qwen3_moe", {"expert_count": 5000}, "'qwen3moe.expert_count' is 5,000; up to 1,024"),
        ("qwen3_moe", {"expert_count": 4}, r"'blk\.0\.ffn_gate_inp\.weight'.*the model has 4 experts"),
        ("olmoe", {"expert_count": 9}, r"'blk\.0\.ffn_gate\.8\.weight' is missing"),
        ("qwen2_moe", {"expert_gating_func": 2}, "not chosen by softmax"),
        ("qwen2_moe", {"expert_group_count": 2}, "chosen in groups"),
        ("qwen3_moe", {"leading_dense_block_count": 1}, "first layers"),
    ],
)  # fmt: skip
def test_ggufs_that_contradict_themselves_are_refused_by_the_key(
    tmp_path: Path, name: str, metadata: dict[str, int], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        open_gguf(gguf_file(tmp_path, name, metadata=metadata))


@pytest.mark.parametrize("name", ["gpt_oss", "gpt-oss"])
def test_gpt_oss_is_refused_by_name(name: str) -> None:
    with pytest.raises(
        UnsupportedFormat, match=r"gpt-oss \(weights in MXFP4, attention sinks\) is not supported yet"
    ):
        read_config({"model_type": name, "num_local_experts": 32})


def test_experts_in_a_family_without_them_are_refused() -> None:
    with pytest.raises(UnsupportedFormat, match="mixture of experts in a Qwen3"):
        read_config(MIXTURES["qwen3_moe"] | {"model_type": "qwen3"})


@pytest.mark.parametrize("quantization", [Type.F32, Type.Q8_0])
def test_experts_in_tensors_of_their_own_are_the_same_model(tmp_path: Path, quantization: Type) -> None:
    together = open_gguf(gguf_file(tmp_path, "mixtral", quantization))
    apart = open_gguf(write_gguf(
        tmp_path / "old.gguf", MIXTURES["mixtral"], random_weights(MIXTURES["mixtral"]), quantization, stacked=False
    ))  # fmt: skip
    build(tmp_path / "a", *together)
    build(tmp_path / "b", *apart)
    for name in ("model.onnx", "model.onnx.data"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_experts_of_a_layer_in_several_types_are_refused_by_name(tmp_path: Path) -> None:
    arch, source = open_gguf(
        gguf_file(tmp_path, "mixtral", Type.Q8_0, stacked=False, types={"blk.1.ffn_down.3": Type.Q4_0})
    )
    with pytest.raises(UnsupportedFormat, match=r"'blk\.1\.ffn_down\.3' is stored in another form than .*\.0'"):
        build(tmp_path / "out", arch, source)


def test_gate_and_up_of_other_types_are_two_products(tmp_path: Path) -> None:
    arch, source = open_gguf(gguf_file(tmp_path, "olmoe", Type.Q8_0, types={"ffn_up_exps": Type.Q4_0}))
    build(tmp_path / "out", arch, source)
    check_graph(tmp_path / "out", arch, source)
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    assert [node.op_type for node in model.graph.node].count("MatMulExperts") == 3 * arch.layers


@pytest.mark.parametrize("scheme", ["int4", "int8"])
@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe_some", "olmoe"])
def test_experts_of_floats_are_quantised_and_their_router_is_not(tmp_path: Path, name: str, scheme: Any) -> None:
    arch, source = directory(tmp_path, name)
    (tmp_path / "scratch").mkdir()
    weights = QuantisedSource(source, scheme, tmp_path / "scratch")
    build(tmp_path / "out", arch, weights)
    assert check_graph(tmp_path / "out", arch, weights)["logits_error_float"] < 1e-5
    assert weights.type_name(f"blk.{arch.layers - 1}.ffn_down.1") == scheme
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    router = f"blk.{arch.layers - 1}.ffn_gate_inp"
    np.testing.assert_array_equal(
        read_initializer(stored[f"{router}.weight"], tmp_path / "out"), source.dequantise(router)
    )


def test_the_check_finds_a_router_that_is_wrong(tmp_path: Path) -> None:
    arch, source = open_gguf(gguf_file(tmp_path, "qwen3_moe", Type.Q8_0))
    build(tmp_path / "out", arch, source)
    check_graph(tmp_path / "out", arch, source)
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "normalise":
                attribute.i = 0
    (tmp_path / "out" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedFormat, match="does not agree"):
        check_graph(tmp_path / "out", arch, source)


class _NearlyEqual:
    """A source whose first layer has pairs of experts that a router scores alike up to rounding."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def dequantise(self, name: str, rows: Any = slice(None)) -> Array:
        values = self._source.dequantise(name, rows)
        if name == "blk.0.ffn_gate_inp":
            values[1::2] = values[::2] * np.float32(1 + 1e-7)
        return values


def test_the_check_passes_where_rounding_decides_which_expert_is_chosen(tmp_path: Path) -> None:
    arch, given = open_gguf(gguf_file(tmp_path, "qwen3_moe", Type.Q8_0))
    source: WeightSource = _NearlyEqual(given)  # type: ignore[assignment]  # what is not defined is the source's
    build(tmp_path / "out", arch, source)
    assert check_graph(tmp_path / "out", arch, source)["logits_error_float"] < 1e-4


def test_a_mixture_is_neither_read_back_nor_computed_by_cuda(tmp_path: Path) -> None:
    arch, source = open_gguf(gguf_file(tmp_path, "qwen3_moe", Type.Q8_0))
    spec = build(tmp_path / "out", arch, source)
    with pytest.raises(UnsupportedFormat, match="neither trained nor exported"):
        read_graph(tmp_path / "out", spec)
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    with pytest.raises(UnsupportedFormat, match="MatMulExperts, RouteExperts; import this model without --cuda"):
        check_kernels([node for node in model.graph.node if node.op_type.endswith("Experts")])


def need(**changes: Any) -> int:
    experts = Experts(count=128, used=8, feed_forward_size=768, normalised=True)
    arch = read_config(MIXTURES["qwen3_moe"])
    large = replace(arch, hidden_size=2048, experts=replace(experts, **changes))
    return memory_need(large, mapped_bytes=10**10, packed_bytes=0).weights


def test_all_experts_count_as_resident() -> None:
    assert need() == need(used=1) == 10**10


def test_a_token_needs_memory_for_each_of_its_experts() -> None:
    arch = read_config(MIXTURES["qwen3_moe"])
    experts = Experts(count=128, used=8, feed_forward_size=768, normalised=True)
    few, many = (
        memory_need(replace(arch, experts=replace(experts, used=used)), mapped_bytes=0, packed_bytes=0).activations
        for used in (1, 8)
    )
    assert many > 4 * 4 * 192 * 2 * 7 * 768 + few


def test_the_reference_reads_the_experts_in_use_alone(tmp_path: Path) -> None:
    arch, source = directory(tmp_path, "olmoe")
    read: set[str] = set()

    class Watched(Reference):
        def _linear(self, x: Array, name: str) -> Array:
            read.add(name)
            return super()._linear(x, name)

    Watched(arch, source).logits(IDS[:1])
    assert len({name for name in read if name.startswith("blk.0.ffn_up")}) == 3
