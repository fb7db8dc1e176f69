"""What a replica of a converted model takes."""

from devtools.convert.architecture import Architecture
from shared.contracts.manifest import MemoryNeed

PROCESS = 160_000_000
"""Bytes: the replica's process before a model is loaded (Python, ONNX Runtime, tokenizers, bus client)."""
LARGEST_CHUNK, LARGEST_BATCH = 512, 64
"""Tokens of a prefill chunk and of a decode step for which the activations are counted."""


def memory_need(arch: Architecture, *, weight_bytes: int, packed_bytes: int) -> MemoryNeed:
    """The need of a replica on the CPU.

    ONNX Runtime maps `model.onnx.data` and keeps a second, rearranged copy of every matrix that it multiplies by
    (`packed_bytes` of `weight_bytes`); both count, because the mapped pages of what is only read once may stay.
    """
    widest = 2 * arch.feed_forward_size + 4 * arch.hidden_size + (arch.heads + 2 * arch.kv_heads) * arch.head_dim
    scores = arch.heads * LARGEST_CHUNK * arch.context_length
    logits = LARGEST_BATCH * arch.vocab_size
    return MemoryNeed(
        weights=weight_bytes + packed_bytes,
        kv_per_token=2 * 4 * arch.layers * arch.kv_heads * arch.head_dim,
        activations=PROCESS + 4 * (LARGEST_CHUNK * widest + scores + logits),
    )
