"""What a replica of a converted model takes, computed from what was measured with ONNX Runtime 1.31.

SmolLM2 in Q4_1 (111 MB of matrices, 34 MB of embedding and rotary tables) was resident in 157 MB more than an empty
process after the session was made, 135 MB of them anonymous: the rearranged matrices, at 1.2 times their bytes.
"""

from devtools.convert.architecture import Architecture
from shared.contracts.manifest import MemoryNeed

PACKED = 1.2
"""Resident bytes per byte of a matrix that ONNX Runtime rearranges; the file's own pages of it are let go."""
PROCESS = 160_000_000
"""Bytes: the replica's process before a model is loaded (Python, ONNX Runtime, tokenizers, bus client)."""
LARGEST_CHUNK, LARGEST_BATCH = 512, 64
"""Tokens of a prefill chunk and of a decode step for which the activations are counted."""


def memory_need(arch: Architecture, *, mapped_bytes: int, packed_bytes: int) -> MemoryNeed:
    """The need of a replica on the CPU.

    Args:
        arch: The decoder.
        mapped_bytes: What is read where it lies in the mapped file: embedding, norms, rotary tables.
        packed_bytes: What ONNX Runtime rearranges: every matrix that it multiplies by.
    """
    widest = 2 * arch.feed_forward_size + 4 * arch.hidden_size + (arch.heads + 2 * arch.kv_heads) * arch.head_dim
    scores = arch.heads * LARGEST_CHUNK * arch.context_length
    logits = LARGEST_BATCH * arch.vocab_size
    return MemoryNeed(
        weights=mapped_bytes + int(PACKED * packed_bytes),
        kv_per_token=2 * 4 * arch.layers * arch.kv_heads * arch.head_dim,
        activations=PROCESS + 4 * (LARGEST_CHUNK * widest + scores + logits),
    )
