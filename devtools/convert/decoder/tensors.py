"""Checks that a source has the tensors of an architecture, in their shapes, and no other."""

from devtools.convert.decoder.architecture import Architecture, Experts
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
        raise CorruptFile(f"the tensor {_full(missing)!r} is missing{_of_experts(missing, arch)}", param="source")
    expected = required | optional
    for name in source.names():
        if name in _UNUSED:
            continue
        if name not in expected:
            raise UnsupportedFormat(
                f"the tensor {_full(name)!r} is no part of a plain {arch.family} model{_of_experts(name, arch)};"
                " not supported",
                param="source",
            )
        if source.shape(name) != expected[name]:
            raise CorruptFile(
                f"the tensor {_full(name)!r} has shape {source.shape(name)}, expected {expected[name]}"
                f"{_of_experts(name, arch)}",
                param="source",
            )


def _of_experts(name: str, arch: Architecture) -> str:
    """For a router, or the tensor of an expert: how many experts there should be."""
    last = name.rpartition(".")[2]
    if arch.experts is None or not (last.isdigit() or last == "ffn_gate_inp"):
        return ""
    return f" (the model has {arch.experts.count} experts)"


def _full(name: str) -> str:
    """The name as a GGUF has it."""
    return name if name.endswith(".bias") else f"{name}.weight"


def _shapes(arch: Architecture) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The tensors that must be there and those that may be: name -> shape."""
    hidden, head = (arch.hidden_size,), (arch.head_dim,)
    queries, keys = (arch.heads * arch.head_dim,), (arch.kv_heads * arch.head_dim,)
    norms = {"attn_norm": hidden, "ffn_norm": hidden}
    if arch.qk_norm:
        whole = arch.qk_norm_whole
        norms |= {"attn_q_norm": queries if whole else head, "attn_k_norm": keys if whole else head}
    if arch.sandwich_norms:
        norms |= {"post_attention_norm": hidden, "post_ffw_norm": hidden}
    attention = _attention(arch)
    mlp = _mlp("", arch.feed_forward_size, arch.hidden_size)
    ends: dict[str, tuple[int, ...]] = {
        "token_embd": (arch.vocab_size, *hidden),
        "output_norm": hidden,
    }
    head_matrix: dict[str, tuple[int, ...]] = {"output": (arch.vocab_size, *hidden)}
    required = ends | ({} if arch.tied_head else head_matrix)
    optional: dict[str, tuple[int, ...]] = {**head_matrix}
    for layer in range(arch.layers):
        experts = arch.experts_of(layer)
        matrices = attention | (mlp if experts is None else {})
        biases = {f"{name}.bias": shape[:1] for name, shape in matrices.items()}
        needed = {name for name in biases if arch.qkv_bias and name.startswith(("attn_q", "attn_k", "attn_v"))}
        block = norms | matrices | {name: biases[name] for name in needed}
        if experts is not None:
            block |= _mixture(experts, arch.hidden_size)
        required |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
        optional |= {f"blk.{layer}.{name}": shape for name, shape in biases.items()}
    return required, optional


def _attention(arch: Architecture) -> dict[str, tuple[int, ...]]:
    hidden, queries, keys = arch.hidden_size, arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    return {
        "attn_q": (queries, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, queries),
    }


def _mlp(suffix: str, wide: int, hidden: int) -> dict[str, tuple[int, ...]]:
    return {
        f"ffn_gate{suffix}": (wide, hidden),
        f"ffn_up{suffix}": (wide, hidden),
        f"ffn_down{suffix}": (hidden, wide),
    }


def _mixture(experts: Experts, hidden: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"ffn_gate_inp": (experts.count, hidden)}
    for number in range(experts.count):
        found |= _mlp(f".{number}", experts.feed_forward_size, hidden)
    if experts.shared_size:
        found |= {"ffn_gate_inp_shexp": (1, hidden), **_mlp("_shexp", experts.shared_size, hidden)}
    return found
