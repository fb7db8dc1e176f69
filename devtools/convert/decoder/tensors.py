"""Checks that a source has the tensors of an architecture, in their shapes, and no other."""

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.source import WeightSource
from shared.errors import CorruptFile, UnsupportedFormat

_UNUSED = ("rope_freqs",)
"""What the architecture was read from already."""


def check_tensors(source: WeightSource, arch: Architecture) -> None:
    """Check that `source` has the tensors of `arch` and no other.

    Raises:
        CorruptFile: one is missing or of the wrong shape.
        UnsupportedFormat: one is not known: leaving it out would change the answers.
    """
    required, optional = _shapes(arch)
    missing = next((name for name in required if not source.has(name)), None)
    if missing is not None:
        raise CorruptFile(f"the tensor {_full(missing)!r} is missing", param="source")
    expected = required | optional
    for name in source.names():
        if name in _UNUSED:
            continue
        if name not in expected:
            raise UnsupportedFormat(
                f"the tensor {_full(name)!r} is no part of a plain {arch.family} model; not supported", param="source"
            )
        if source.shape(name) != expected[name]:
            raise CorruptFile(
                f"the tensor {_full(name)!r} has shape {source.shape(name)}, expected {expected[name]}",
                param="source",
            )


def _full(name: str) -> str:
    """The name as a GGUF has it."""
    return name if name.endswith(".bias") else f"{name}.weight"


def _shapes(arch: Architecture) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The tensors that must be there and those that may be: name -> shape."""
    hidden, head = (arch.hidden_size,), (arch.head_dim,)
    norms = {"attn_norm": hidden, "ffn_norm": hidden}
    if arch.qk_norm:
        norms |= {"attn_q_norm": head, "attn_k_norm": head}
    if arch.sandwich_norms:
        norms |= {"post_attention_norm": hidden, "post_ffw_norm": hidden}
    matrices = _matrices(arch)
    biases = {f"{name}.bias": shape[:1] for name, shape in matrices.items()}
    needed = {name for name in biases if arch.qkv_bias and name.startswith(("attn_q", "attn_k", "attn_v"))}
    ends: dict[str, tuple[int, ...]] = {
        "token_embd": (arch.vocab_size, *hidden),
        "output_norm": hidden,
    }
    head_matrix = {"output": (arch.vocab_size, *hidden)}
    block = norms | matrices | {name: biases[name] for name in needed}
    required = ends | ({} if arch.tied_head else head_matrix) | _in_each(arch.layers, block)
    return required, head_matrix | _in_each(arch.layers, biases)


def _matrices(arch: Architecture) -> dict[str, tuple[int, ...]]:
    hidden, wide = arch.hidden_size, arch.feed_forward_size
    queries, keys = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    return {
        "attn_q": (queries, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, queries),
        "ffn_gate": (wide, hidden),
        "ffn_up": (wide, hidden),
        "ffn_down": (hidden, wide),
    }


def _in_each(layers: int, block: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"blk.{layer}.{name}": shape for layer in range(layers) for name, shape in block.items()}
