"""The hyper-parameters of a decoder, whatever file they were read from."""

from dataclasses import dataclass
from enum import StrEnum

from devtools.convert.decoder.rope import Rope
from shared.errors import CorruptFile, UnsupportedFormat

MAX_LAYERS = 1024
MAX_EXPERTS = 1024
MAX_POSITIONS = 1 << 20
"""The graph holds a rotary table with a row per position."""


class Activation(StrEnum):
    """The activation function of a gated MLP."""

    SILU = "silu"
    GELU_TANH = "gelu_tanh"
    """GELU in its approximation by tanh."""


@dataclass(frozen=True, slots=True)
class LayerAttention:
    """How one layer attends.

    Attributes:
        rope: Its rotary position embedding; None: it has none.
        window: Tokens that a token attends to, itself included; None: all before it.
    """

    rope: Rope | None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in the place of an MLP: gated MLPs of which a router chooses some for each token.

    Attributes:
        count: How many there are.
        used: How many of them a token goes through.
        feed_forward_size: The inner size of each.
        normalised: Whether the weights of a token's experts are divided by their sum.
        shared_size: The inner size of an MLP that all tokens go through beside them, weighted by the sigmoid of its
            own score; 0: there is none.
        dense_layers: Those with a plain MLP instead.
    """

    count: int
    used: int
    feed_forward_size: int
    normalised: bool
    shared_size: int = 0
    dense_layers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder of pre-norm blocks: RMS norms, grouped-query attention, a gated MLP or a mixture of experts.

    Attributes:
        family: `llama`, `qwen2`, …
        rotary_interleaved: Whether neighbouring dimensions of a head form a rotary pair (as llama.cpp's converter
            orders a Llama), or each dimension and the one half a head away.
        attention: One per layer.
        tied_head: Whether logits are computed with the embedding's matrix.
        qkv_bias: Whether query, key and value must have biases; a bias that a file has is used in any case.
        qk_norm: Whether each head of query and key is normed before it is rotated.
        qk_norm_whole: Whether all heads are normed as one then.
        sandwich_norms: Whether the output of each block is normed before it is added to the residual stream.
        embedding_scale: Factor of embeddings.
        attention_scale: Factor of attention scores; None: `head_dim ** -0.5`.
        experts: The mixture of experts in its layers; None: MLPs.
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
    qk_norm_whole: bool = False
    sandwich_norms: bool = False
    activation: Activation = Activation.SILU
    embedding_scale: float = 1.0
    attention_scale: float | None = None
    experts: Experts | None = None

    @property
    def layers(self) -> int:
        """How many blocks there are."""
        return len(self.attention)

    def experts_of(self, layer: int) -> Experts | None:
        """The mixture of experts of a layer; None: it has an MLP."""
        return None if self.experts is None or layer in self.experts.dense_layers else self.experts


def check_sizes(*, layers: int, context_length: int, heads: int, kv_heads: int, head_dim: int) -> None:
    """Check what a graph is built from before anything of that size is made.

    Raises:
        CorruptFile: sizes that contradict one another.
        UnsupportedFormat: a longer context than the graph can hold.
    """
    if layers > MAX_LAYERS:
        raise CorruptFile(f"the file claims {layers:,} layers", param="source")
    if context_length > MAX_POSITIONS:
        raise UnsupportedFormat(
            f"a context of {context_length:,} tokens; up to {MAX_POSITIONS:,} are supported", param="source"
        )
    if heads % kv_heads or head_dim % 2:
        raise CorruptFile(
            f"{heads} heads, {kv_heads} key/value heads of {head_dim} dimensions do not fit together", param="source"
        )


def check_experts(experts: Experts, *, count_key: str, used_key: str) -> None:
    """Check the numbers of a mixture, which the file has under these keys.

    Raises:
        CorruptFile: more experts than any model has, or a token that uses more than there are.
    """
    if experts.count > MAX_EXPERTS:
        raise CorruptFile(
            f"{count_key!r} is {experts.count:,}; up to {MAX_EXPERTS:,} experts are supported", param="source"
        )
    if experts.used > experts.count:
        raise CorruptFile(
            f"{used_key!r} is {experts.used}; it must be at most {count_key!r}, {experts.count}", param="source"
        )
