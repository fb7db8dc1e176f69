"""The hyper-parameters of a decoder, from a GGUF's metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from devtools.convert.gguf_file import GgufFile
from devtools.convert.quants import Floats, check_supported, dequantise
from shared.errors import CorruptFile, UnsupportedFormat

ARCHITECTURES = ("llama",)
_OPTIONAL = ("output.weight", "rope_freqs.weight")
"""A tied head has no matrix of its own; only Llama 3 has frequency factors."""
_MOST_LAYERS = 1024
_MOST_POSITIONS = 1 << 20
"""The graph holds a rotary table with a row per position."""
_LIMIT = 1 << 24
"""No dimension of a real model is larger; a larger one is a damaged or hostile file."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A Llama: pre-norm RMSNorm blocks of rotary grouped-query attention and SwiGLU.

    `rope_frequencies` is float32 [head_dim / 2], radians per position; query and key rows are laid out for
    interleaved rotation (neighbouring dimensions form a pair), as llama.cpp's converter permutes them.
    """

    layers: int
    hidden_size: int
    feed_forward_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    norm_epsilon: float
    rope_frequencies: Floats


def read_architecture(gguf: GgufFile) -> Architecture:
    """The architecture of `gguf`.

    Raises:
        UnsupportedFormat: an architecture or a feature of it (rope scaling, experts, …) that the graph does not have.
        CorruptFile: a key is missing or its value is impossible.
    """
    name = gguf.metadata.get("general.architecture")
    if name not in ARCHITECTURES:
        raise UnsupportedFormat(
            f"the architecture is {name!r}; supported: {', '.join(ARCHITECTURES)}", param="source"
        )
    keys = _Keys(gguf.metadata, str(name))
    layers = keys.count("block_count")
    if layers > _MOST_LAYERS:
        raise CorruptFile(f"the file claims {layers:,} layers", param="source")
    _refuse_unknown(keys)
    context_length = keys.count("context_length")
    if context_length > _MOST_POSITIONS:
        raise UnsupportedFormat(
            f"a context of {context_length:,} tokens; up to {_MOST_POSITIONS:,} are supported", param="source"
        )
    hidden, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    kv_heads = keys.count("attention.head_count_kv", heads)
    head_dim = keys.count("attention.key_length", hidden // heads if hidden % heads == 0 else None)
    if heads % kv_heads or head_dim % 2 or keys.count("attention.value_length", head_dim) != head_dim:
        raise CorruptFile(
            f"{heads} heads, {kv_heads} key/value heads of {head_dim} dimensions do not fit together", param="source"
        )
    if keys.count("rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedFormat("rotation of only a part of each head is not supported", param="source")
    embedding = gguf.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise CorruptFile("the tensor 'token_embd.weight' is missing", param="source")
    return Architecture(
        layers=layers,
        hidden_size=hidden,
        feed_forward_size=keys.count("feed_forward_length"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=embedding.shape[0],
        context_length=context_length,
        norm_epsilon=keys.positive("attention.layer_norm_rms_epsilon"),
        rope_frequencies=_rope_frequencies(gguf, keys.positive("rope.freq_base", 10_000.0), head_dim),
    )


class _Keys:
    """Reads `<architecture>.<key>` with the right type, or says what is wrong."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self.metadata = metadata
        self.prefix = architecture

    def get(self, key: str) -> Any:
        return self.metadata.get(f"{self.prefix}.{key}")

    def count(self, key: str, default: int | None = None) -> int:
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LIMIT:
            raise self._wrong(key, value)
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, float) or not 0 < value < float("inf"):
            raise self._wrong(key, value)
        return value

    def _wrong(self, key: str, value: Any) -> CorruptFile:
        full = f"{self.prefix}.{key}"
        if value is None:
            return CorruptFile(f"the metadata key {full!r} is missing", param="source")
        if isinstance(value, list):
            raise UnsupportedFormat(f"{full!r} differs from layer to layer; that is not supported", param="source")
        return CorruptFile(f"the metadata key {full!r} has the impossible value {value!r}", param="source")


def check_tensors(gguf: GgufFile, arch: Architecture) -> None:
    """Check that `gguf` has the tensors of `arch`, in supported types, and no other.

    Raises:
        CorruptFile: one is missing or of the wrong shape.
        UnsupportedFormat: one is of an unsupported type, or is not known: leaving it out would change the answers.
    """
    expected = _expected_shapes(arch)
    for tensor in gguf.tensors.values():
        check_supported(tensor)
    for name, shape in expected.items():
        found = gguf.tensors.get(name)
        if found is None and name not in _OPTIONAL:
            raise CorruptFile(f"the tensor {name!r} is missing", param="source")
        if found is not None and found.shape != shape:
            raise CorruptFile(f"the tensor {name!r} has shape {found.shape}, expected {shape}", param="source")
    unknown = next((name for name in gguf.tensors if name not in expected), None)
    if unknown is not None:
        raise UnsupportedFormat(f"the tensor {unknown!r} is no part of a plain Llama; not supported", param="source")


def _expected_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    hidden, wide = (arch.hidden_size,), arch.feed_forward_size
    queries, keys = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    block = {
        "attn_norm": hidden,
        "attn_q": (queries, *hidden),
        "attn_k": (keys, *hidden),
        "attn_v": (keys, *hidden),
        "attn_output": (*hidden, queries),
        "ffn_norm": hidden,
        "ffn_gate": (wide, *hidden),
        "ffn_up": (wide, *hidden),
        "ffn_down": (*hidden, wide),
    }
    outside = {
        "token_embd.weight": (arch.vocab_size, *hidden),
        "output_norm.weight": hidden,
        "output.weight": (arch.vocab_size, *hidden),
        "rope_freqs.weight": (arch.head_dim // 2,),
    }
    blocks = {f"blk.{i}.{part}.weight": shape for i in range(arch.layers) for part, shape in block.items()}
    return outside | blocks


def _refuse_unknown(keys: _Keys) -> None:
    scaling = keys.get("rope.scaling.type")
    if scaling not in (None, "none"):
        raise UnsupportedFormat(f"rope scaling of type {scaling!r} is not supported", param="source")
    if keys.get("rope.scale_linear") not in (None, 1.0):
        raise UnsupportedFormat("linear rope scaling is not supported", param="source")
    if keys.get("expert_count"):
        raise UnsupportedFormat("mixture-of-experts models are not supported", param="source")
    if keys.get("attention.sliding_window"):
        raise UnsupportedFormat("sliding-window attention is not supported", param="source")


def _rope_frequencies(gguf: GgufFile, base: float, head_dim: int) -> Floats:
    """`base ** (-2i / head_dim)`, divided by Llama 3's per-frequency factors where the file has them."""
    frequencies = base ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    factors = gguf.tensors.get("rope_freqs.weight")
    if factors is not None:
        if factors.shape != (head_dim // 2,):
            raise CorruptFile(f"'rope_freqs.weight' has shape {factors.shape}, expected {(head_dim // 2,)}")
        divisors = dequantise(factors)
        if not (divisors > 0).all():
            raise CorruptFile("'rope_freqs.weight' has factors that are not positive", param="source")
        frequencies = frequencies / divisors
    return frequencies.astype(np.float32)
