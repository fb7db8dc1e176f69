"""The families of decoders that graphs can be built for, and how each differs from a plain Llama."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devtools.convert.decoder.architecture import Activation
from shared.errors import UnsupportedFormat


@dataclass(frozen=True, slots=True)
class Family:
    """What all models of a family have in common, and no file says.

    people_call_it: Its name in messages
    activation: Of its MLP
    qkv_bias, qk_norm, sandwich_norms: See `Architecture`
    scaled_embedding: Whether embeddings are multiplied by the root of their size
    unturned_every: Every so-manieth layer does not turn its heads; 0 for none
    local_every: All layers but every so-manieth see a window only, and turn heads by a base of their own; 0 if that
        is not the family's to say
    some_windows: Whether its last layers may see a window only, from one on that only a `config.json` names
    config_defaults: What a `config.json` means by leaving a key out, where families differ (transformers' classes)
    """

    people_call_it: str
    activation: Activation = Activation.SILU
    qkv_bias: bool = False
    qk_norm: bool = False
    sandwich_norms: bool = False
    scaled_embedding: bool = False
    unturned_every: int = 0
    local_every: int = 0
    some_windows: bool = False
    config_defaults: Mapping[str, Any] = field(default_factory=dict)


_SILU = {"hidden_act": "silu"}
_LLAMA = Family("Llama", config_defaults=_SILU)
_QWEN_WINDOWS = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
_GEMMA3 = Family(
    "Gemma 3",
    activation=Activation.GELU_TANH,
    qk_norm=True,
    sandwich_norms=True,
    scaled_embedding=True,
    local_every=6,
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
        unturned_every=4,
        config_defaults=_SILU | {"use_sliding_window": False, "rope_theta": 2_000_000.0, "tie_word_embeddings": True},
    ),
    "qwen2": Family("Qwen2", qkv_bias=True, some_windows=True, config_defaults=_SILU | _QWEN_WINDOWS),
    "qwen3": Family(
        "Qwen3", qk_norm=True, some_windows=True, config_defaults=_SILU | _QWEN_WINDOWS | {"head_dim": 128}
    ),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
}
SUPPORTED = "Llama 2 and 3 (SmolLM2 among them), Mistral, SmolLM3, Qwen2 and 2.5, Qwen3, Gemma 3"


def find_family(name: object) -> Family:
    """The family that files call `name` (a GGUF's `general.architecture`, the `model_type` of a `config.json`).

    Raises:
        UnsupportedFormat: no graph can be built for it.
    """
    family = _FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise UnsupportedFormat(f"the architecture is {name!r}; supported: {SUPPORTED}", param="source")
    return family
