"""The families of decoders that graphs can be built for, and how each differs from a plain Llama."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devtools.convert.decoder.architecture import Activation
from shared.errors import UnsupportedFormat


@dataclass(frozen=True, slots=True)
class Mixture:
    """How files of a family state their mixture of experts.

    Attributes:
        count_key, size_key: Of a `config.json`: how many experts there are, and the inner size of each.
        shared_key: The inner size of the MLP that all tokens go through beside them; "": there is none.
        normalised: Whether the weights of a token's experts are divided by their sum; None: a `config.json` says it.
        gguf_normalised: The same of GGUF files, which do not say it.
    """

    count_key: str = "num_experts"
    size_key: str = "moe_intermediate_size"
    shared_key: str = ""
    normalised: bool | None = None
    gguf_normalised: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """What all models of a family share and their files do not state.

    Attributes:
        display_name: For messages.
        supported: How the list of supported families names it.
        activation: Of its MLP.
        qkv_bias, qk_norm, qk_norm_whole, sandwich_norms: See `Architecture`.
        scaled_embedding: Whether embeddings are multiplied by the square root of their size.
        no_rope_every: n: every n-th layer has no rotary embedding. 0: every layer has one.
        full_attention_every: n: every n-th layer attends to the whole context; the others attend to a sliding window
            and have a rotary base of their own. 0: the family does not define windows.
        windowed_last_layers: Whether the layers after a number that only a `config.json` states attend to a window.
        mixture: Of experts in the place of MLPs; None: no model of the family has one.
        gguf_interleaved: Whether llama.cpp's converter permutes the rows of queries and keys, so that neighbouring
            dimensions form a pair.
        gguf_scale_layers: GGUF files with this number of layers scale attention scores by the hidden size per head
            instead of the head's size. 0: none does.
        config_defaults: The value of a key that a `config.json` leaves out, where families differ (transformers'
            classes).
    """

    display_name: str
    supported: str = ""
    activation: Activation = Activation.SILU
    qkv_bias: bool = False
    qk_norm: bool = False
    qk_norm_whole: bool = False
    sandwich_norms: bool = False
    scaled_embedding: bool = False
    no_rope_every: int = 0
    full_attention_every: int = 0
    windowed_last_layers: bool = False
    mixture: Mixture | None = None
    gguf_interleaved: bool = False
    gguf_scale_layers: int = 0
    config_defaults: Mapping[str, Any] = field(default_factory=dict)


_SILU = {"hidden_act": "silu"}
_LLAMA = Family("Llama", supported="Llama 2 and 3 (SmolLM2 among them)", gguf_interleaved=True, config_defaults=_SILU)
_QWEN2_MOE = Family(
    "Qwen2-MoE",
    qkv_bias=True,
    windowed_last_layers=True,
    mixture=Mixture(shared_key="shared_expert_intermediate_size"),
    config_defaults=_SILU
    | {
        "use_sliding_window": False,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "norm_topk_prob": False,
    },
)
_QWEN3_MOE = Family(
    "Qwen3-MoE",
    qk_norm=True,
    windowed_last_layers=True,
    mixture=Mixture(gguf_normalised=True),
    config_defaults=_SILU
    | {
        "use_sliding_window": False,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "norm_topk_prob": False,
    },
)
_OLMOE = Family(
    "OLMoE",
    qk_norm=True,
    qk_norm_whole=True,
    mixture=Mixture(size_key="intermediate_size"),
    config_defaults=_SILU
    | {"num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": False, "rms_norm_eps": 1e-5},
)
_QWEN_WINDOWS = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
_GEMMA3 = Family(
    "Gemma 3",
    activation=Activation.GELU_TANH,
    qk_norm=True,
    sandwich_norms=True,
    scaled_embedding=True,
    full_attention_every=6,
    gguf_scale_layers=62,  # the 27B model
    config_defaults={
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
        "rope_local_base_freq": 10_000.0,
        "rope_theta": 1_000_000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
    },
)
_FAMILIES = {
    "llama": _LLAMA,
    "mistral": Family("Mistral", config_defaults=_SILU | {"sliding_window": 4096}),
    "smollm3": Family(
        "SmolLM3",
        no_rope_every=4,
        gguf_interleaved=True,
        config_defaults=_SILU | {"use_sliding_window": False, "rope_theta": 2_000_000.0, "tie_word_embeddings": True},
    ),
    "qwen2": Family(
        "Qwen2",
        supported="Qwen2 and 2.5",
        qkv_bias=True,
        windowed_last_layers=True,
        config_defaults=_SILU | _QWEN_WINDOWS,
    ),
    "qwen3": Family(
        "Qwen3", qk_norm=True, windowed_last_layers=True, config_defaults=_SILU | _QWEN_WINDOWS | {"head_dim": 128}
    ),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "mixtral": Family(
        "Mixtral",
        mixture=Mixture(
            count_key="num_local_experts", size_key="intermediate_size", normalised=True, gguf_normalised=True
        ),
        config_defaults=_SILU
        | {"num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1_000_000.0, "rms_norm_eps": 1e-5},
    ),
    "qwen2moe": _QWEN2_MOE,
    "qwen2_moe": _QWEN2_MOE,
    "qwen3moe": _QWEN3_MOE,
    "qwen3_moe": _QWEN3_MOE,
    "olmoe": _OLMOE,
}
_NOT_YET = dict.fromkeys(("gpt-oss", "gpt_oss"), "gpt-oss (weights in MXFP4, attention sinks) is not supported yet")
SUPPORTED = ", ".join(dict.fromkeys(family.supported or family.display_name for family in _FAMILIES.values()))


def find_family(name: object) -> Family:
    """The family that files call `name` (a GGUF's `general.architecture`, the `model_type` of a `config.json`).

    Raises:
        UnsupportedFormat: no graph can be built for it.
    """
    family = _FAMILIES.get(name) if isinstance(name, str) else None
    if isinstance(name, str) and name in _NOT_YET:
        raise UnsupportedFormat(f"{_NOT_YET[name]}; supported: {SUPPORTED}", param="source")
    if family is None:
        raise UnsupportedFormat(f"the architecture is {name!r}; supported: {SUPPORTED}", param="source")
    return family
