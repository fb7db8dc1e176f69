"""What `config.json` and a GGUF's metadata say about a decoder is read, or refused by name."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert.decoder.architecture import Activation, Architecture
from devtools.convert.gguf.architecture import read_architecture
from devtools.convert.gguf.file import GgufFile, GgufTensor
from devtools.convert.hf.architecture import read_config
from shared.errors import CorruptFile, InvalidInput, UnsupportedFormat
from tests.support.models.tiny_families import CONFIGS

METADATA: dict[str, Any] = {
    "block_count": 12,
    "context_length": 4096,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 10_000.0,
}


def gguf(name: str, changes: dict[str, Any], *tensors: str) -> Architecture:
    metadata = {f"{name}.{key}": value for key, value in (METADATA | changes).items() if value is not None}
    embedding = GgufTensor("token_embd.weight", Type.F32, (96, 64), np.zeros((96, 256), np.uint8))
    others = {other: GgufTensor(other, Type.F32, (8,), np.zeros(32, np.uint8)) for other in tensors}
    return read_architecture(
        GgufFile(Path("m"), {"general.architecture": name} | metadata, {"token_embd.weight": embedding} | others)
    )


def config(name: str, **changes: Any) -> Architecture:
    return read_config({key: value for key, value in (CONFIGS[name] | changes).items() if value != "absent"})


def windows(arch: Architecture) -> list[int | None]:
    return [attention.window for attention in arch.attention]


def names(arch: Architecture) -> list[str | None]:
    return [attention.rope and attention.rope.name for attention in arch.attention]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "dbrx"}, "'dbrx'; supported: Llama 2 and 3.*Mixtral"),
        ({"model_type": "deepseek_v3"}, "'deepseek_v3'"),
        ({"model_type": None}, "None"),
        ({"num_local_experts": 8}, "mixture of experts in a Llama"),
        ({"num_experts": 8}, "mixture of experts in a Llama"),
        ({"hidden_act": "relu"}, "'relu'.*silu"),
        ({"partial_rotary_factor": 0.5}, "part of each head"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'.*yarn"),
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "'longrope'"),
        ({"rope_scaling": {"type": "su"}}, "'su'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "another library"),
        ({"attn_logit_softcapping": 50.0}, "soft-capped attention"),
        ({"final_logit_softcapping": 30.0}, "soft-capped logits"),
        ({"use_bidirectional_attention": True}, "both directions"),
        ({"layer_types": ["full_attention", "linear_attention", "full_attention"]}, "'linear_attention'"),
        ({"max_position_embeddings": 10_000_000}, "10,000,000"),
    ],
)
def test_config_asks_for_what_no_graph_has(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedFormat, match=says):
        config("llama2", **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_size": "absent"}, "'hidden_size' is missing"),
        ({"hidden_size": "64"}, "impossible value '64'"),
        ({"num_key_value_heads": 3}, "fit together"),
        ({"num_hidden_layers": 5000}, "5,000 layers"),
        ({"layer_types": ["full_attention"]}, "3 layers"),
        ({"rope_scaling": {"type": "linear"}}, "'factor' is missing"),
        ({"rope_scaling": "linear"}, "rope_scaling"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"rope_theta": 1}, "rope_theta"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
                           "original_max_position_embeddings": 32}}, "high_freq_factor"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ],
)  # fmt: skip
def test_config_that_contradicts_itself_is_corrupt(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CorruptFile, match=says):
        config("llama2", **changes)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("value", [True, 7, -1, 0.5, math.nan, "text", [], [1, 2], {}, {"a": 1}, None])
def test_config_of_any_types_is_read_or_refused_but_never_crashes(name: str, value: object) -> None:
    for key in CONFIGS[name]:
        try:
            config(name, **{key: value})
        except InvalidInput as error:
            assert error.message  # noqa: PT017  # any other exception is the failure


def test_absent_keys_mean_what_the_family_means_by_them() -> None:
    assert windows(config("mistral", sliding_window="absent")) == [4096] * 3
    assert windows(config("mistral", sliding_window=None)) == [None] * 3
    gemma = config("gemma3", hidden_activation="absent", sliding_window="absent", head_dim="absent")
    assert (gemma.activation, gemma.head_dim, windows(gemma)[0]) == (Activation.GELU_TANH, 256, 4096)
    assert config("qwen3", head_dim="absent").head_dim == 128
    assert config("llama2", num_key_value_heads="absent").kv_heads == 4


def test_layers_of_a_config_see_what_their_types_say() -> None:
    assert windows(config("gemma3")) == [5, 5, 5, 5, 5, None]
    assert names(config("gemma3")) == ["local"] * 5 + ["global"]
    listed = config("gemma3", layer_types=["full_attention", "sliding_attention"] * 3)
    assert windows(listed) == [None, 5] * 3
    assert windows(config("qwen2_windows")) == [None, 6, 6]
    assert windows(config("qwen2_windows", use_sliding_window=False)) == [None] * 3
    assert names(config("smollm3")) == ["global"] * 3 + [None]
    assert names(config("smollm3", no_rope_layers=[0, 1, 1, 1])) == [None] + ["global"] * 3


def test_rope_parameters_of_transformers_5_are_read() -> None:
    scaling = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1_000_000.0}
    flat = config("llama2", rope_parameters=scaling, rope_theta="absent").attention[0].rope
    assert flat is not None
    np.testing.assert_allclose(flat.frequencies[1], 1e6 ** (-2 / 16) / 2)
    nested = {"full_attention": scaling, "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}}
    old, new = config("gemma3"), config("gemma3", rope_parameters=nested, rope_theta="absent", rope_scaling=None)
    for before, after in zip(old.attention, new.attention, strict=True):
        assert before.rope is not None
        assert after.rope is not None
        np.testing.assert_allclose(before.rope.frequencies, after.rope.frequencies)


def test_yarn_makes_the_context_longer_and_the_rotation_larger() -> None:
    arch = config("qwen2_yarn", max_position_embeddings=32)
    assert arch.context_length == 128
    assert arch.attention[0].rope is not None
    cos, sin = arch.attention[0].rope.caches(arch.context_length)
    np.testing.assert_allclose(np.hypot(cos, sin), 0.1 * math.log(4) + 1, rtol=1e-6)
    scaling = CONFIGS["qwen2_yarn"]["rope_scaling"] | {"attention_factor": 1.5}
    rope = config("qwen2_yarn", rope_scaling=scaling).attention[0].rope
    assert rope is not None
    assert rope.magnitude == 1.5
    both = config(
        "qwen2_yarn", rope_scaling=CONFIGS["qwen2_yarn"]["rope_scaling"] | {"mscale": 1, "mscale_all_dim": 1}
    )
    assert both.attention[0].rope is not None
    assert both.attention[0].rope.magnitude == 1


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("qwen3", {"expert_count": 8}, "mixture of experts in a Qwen3"),
        ("dbrx", {}, "'dbrx'; supported: Llama 2 and 3"),
        ("deepseek2", {"attention.kv_lora_rank": 512}, "'deepseek2'"),
        ("llama", {"attention.kv_lora_rank": 512}, "MLA"),
        ("llama", {"rope.scaling.type": "longrope"}, "'longrope'.*yarn"),
        ("llama", {"rope.scaling.type": "dynamic"}, "'dynamic'"),
        ("llama", {"rope.dimension_count": 8}, "part of each head"),
        ("llama", {"attention.value_length": 8}, "values of another size"),
        ("llama", {"logit_scale": 0.5}, "scaled logits"),
        ("gemma3", {"attention.sliding_window": 512, "final_logit_softcapping": 30.0}, "soft-capped logits"),
        ("gemma2", {"attention.sliding_window": 512}, "'gemma2'"),
        ("qwen2", {"attention.sliding_window": 512}, "which layers"),
        ("qwen3", {"pooling_type": 3}, "embedding model"),
        ("llama", {"attention.causal": False}, "both directions"),
        ("llama", {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_ext_factor": 0.5,
                   "rope.scaling.original_context_length": 1024}, "extrapolation"),
    ],
)  # fmt: skip
def test_gguf_asks_for_what_no_graph_has(name: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedFormat, match=says):
        gguf(name, changes)


def test_longrope_factors_in_a_gguf_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedFormat, match="longrope"):
        gguf("llama", {}, "rope_factors_long.weight")


def test_gguf_without_what_it_needs_is_corrupt() -> None:
    with pytest.raises(CorruptFile, match="original_context_length"):
        gguf("llama", {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0})
    with pytest.raises(CorruptFile, match="sliding_window"):
        gguf("gemma3", {})
    with pytest.raises(CorruptFile, match="12 layers"):
        gguf("gemma3", {"attention.sliding_window": 512, "attention.sliding_window_pattern": [True, False]})


def test_layers_of_a_gguf_see_what_llama_cpp_lets_them_see() -> None:
    gemma = gguf("gemma3", {"attention.sliding_window": 512, "rope.freq_base": 1_000_000.0})
    assert windows(gemma) == ([512] * 5 + [None]) * 2
    assert names(gemma) == (["local"] * 5 + ["global"]) * 2
    local, everywhere = gemma.attention[0].rope, gemma.attention[5].rope
    assert local is not None
    assert everywhere is not None
    np.testing.assert_allclose([local.frequencies[1], everywhere.frequencies[1]], [1e4**-0.125, 1e6**-0.125])
    listed = {"attention.sliding_window": 512, "attention.sliding_window_pattern": [True, False] * 6}
    assert windows(gguf("gemma3", listed)) == [512, None] * 6
    assert windows(gguf("llama", {"attention.sliding_window": 512})) == [512] * 12
    assert names(gguf("smollm3", {})) == (["global"] * 3 + [None]) * 3


def test_gemma_3_27b_scales_scores_by_its_share_of_the_hidden_size() -> None:
    gemma = {"attention.sliding_window": 512, "attention.key_length": 32, "attention.value_length": 32}
    assert gguf("gemma3", gemma).attention_scale is None
    assert gguf("gemma3", gemma | {"block_count": 62}).attention_scale == 16**-0.5


def test_pairs_of_a_head_lie_as_the_converter_of_the_family_lays_them() -> None:
    assert gguf("llama", {}).rotary_interleaved
    assert not gguf("qwen3", {}).rotary_interleaved
    assert not config("llama2").rotary_interleaved
