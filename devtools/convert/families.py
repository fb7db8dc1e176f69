"""The families of decoders that graphs can be built for, and how each differs from a plain Llama."""

from dataclasses import dataclass

from devtools.convert.architecture import Activation
from shared.errors import UnsupportedFormat


@dataclass(frozen=True, slots=True)
class Family:
    """What all models of a family have in common, and no file says.

    people_call_it: Its name in messages
    activation: Of its MLP
    qkv_bias, qk_norm, sandwich_norms: See `Architecture`
    scaled_embedding: Whether embeddings are multiplied by the root of their size
    unturned_every: Every so-manieth layer does not turn its heads; 0 for none
    local_every: All layers but every so-manieth see a window only; 0 if that is not the family's to say
    """

    people_call_it: str
    activation: Activation = Activation.SILU
    qkv_bias: bool = False
    qk_norm: bool = False
    sandwich_norms: bool = False
    scaled_embedding: bool = False
    unturned_every: int = 0
    local_every: int = 0


_LLAMA = Family("Llama")
_GEMMA3 = Family(
    "Gemma 3",
    activation=Activation.GELU_TANH,
    qk_norm=True,
    sandwich_norms=True,
    scaled_embedding=True,
    local_every=6,
)
_FAMILIES = {
    "llama": _LLAMA,
    "mistral": Family("Mistral"),
    "smollm3": Family("SmolLM3", unturned_every=4),
    "qwen2": Family("Qwen2", qkv_bias=True),
    "qwen3": Family("Qwen3", qk_norm=True),
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
