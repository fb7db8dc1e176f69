"""The hyper-parameters of a decoder, whatever file they were read from."""

from dataclasses import dataclass
from enum import StrEnum

from devtools.convert.decoder.rope import Rope
from shared.errors import CorruptFile, UnsupportedFormat

MOST_LAYERS = 1024
MOST_POSITIONS = 1 << 20
"""The graph holds a rotary table with a row per position."""


class Activation(StrEnum):
    """What the gate of an MLP passes through."""

    SILU = "silu"
    GELU_TANH = "gelu_tanh"
    """GELU in its approximation by tanh."""


@dataclass(frozen=True, slots=True)
class LayerAttention:
    """How one layer attends.

    rope: How its heads are turned by position; None if they are not
    window: How many tokens it sees, itself among them; None for all
    """

    rope: Rope | None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder of pre-norm blocks: RMS norms, grouped-query attention, a gated MLP.

    family: The name under which it is known: `llama`, `qwen2`, …
    rotary_interleaved: Whether neighbouring dimensions of a head form a pair (as llama.cpp's converter lays out a
        Llama), or each with the one half a head away
    attention: One per layer
    tied_head: Whether logits are made with the embedding's matrix
    qkv_bias: Whether query, key and value must have biases; a bias that is there is used in any case
    qk_norm: Whether each head of query and key is normed before it is turned
    sandwich_norms: Whether what a block adds to the residual stream is normed too
    embedding_scale: What embeddings are multiplied by
    attention_scale: What scores are multiplied by; None for `head_dim ** -0.5`
    """

    family: str
    hidden_size: int
    feed_forward_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    norm_epsilon: float
    rotary_interleaved: bool
    attention: tuple[LayerAttention, ...]
    tied_head: bool
    qkv_bias: bool = False
    qk_norm: bool = False
    sandwich_norms: bool = False
    activation: Activation = Activation.SILU
    embedding_scale: float = 1.0
    attention_scale: float | None = None

    @property
    def layers(self) -> int:
        """How many blocks there are."""
        return len(self.attention)


def check_sizes(*, layers: int, context_length: int, heads: int, kv_heads: int, head_dim: int) -> None:
    """Check what a graph is built from before anything of that size is made.

    Raises:
        CorruptFile: sizes that contradict one another.
        UnsupportedFormat: a longer context than the graph can hold.
    """
    if layers > MOST_LAYERS:
        raise CorruptFile(f"the file claims {layers:,} layers", param="source")
    if context_length > MOST_POSITIONS:
        raise UnsupportedFormat(
            f"a context of {context_length:,} tokens; up to {MOST_POSITIONS:,} are supported", param="source"
        )
    if heads % kv_heads or head_dim % 2:
        raise CorruptFile(
            f"{heads} heads, {kv_heads} key/value heads of {head_dim} dimensions do not fit together", param="source"
        )
