"""What a replica of a converted model takes, computed from what was measured with ONNX Runtime 1.31 on x86.

`benchmarks/memory.py` measures it again and prints both side by side; docs/performance.md has the figures.
"""

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder.graph import KV_TYPE
from operators.build import MAX_SHARDS
from shared.contracts.manifest import KV_BYTES, MemoryNeed

PACKED = 1.2
"""Resident bytes per byte of a float matrix, which ONNX Runtime rearranges; the file's own pages of it are let go.
SmolLM2 in float32 has 1.16. Quantised matrices are read where they lie."""
PROCESS = 230_000_000
"""Bytes: the replica's process before a model is loaded (Python, ONNX Runtime, tokenizer, bus client), and
the process beside it that renders chat templates."""
STEP_TOKENS = 192
"""Tokens of one run, of streams and of prompts, for which the activations are counted."""
ACTIVATIONS_AT_ONCE = 4
"""Resident bytes per byte of one layer's widest tensors: the arena is not packed without gaps."""
LOGITS_AT_ONCE = 8
"""Copies of a row of logits: what the graph writes, and what choosing a token makes of it."""
PROMPT_ROWS, PROMPT_COPIES = 64, 3
"""Rows of logits that a chunk gives when a prompt's own log probabilities are asked for, and copies of them."""
GRAMMAR_BYTES_PER_ID = 650
"""Bytes of each token in the vocabulary that masks are computed from: 525 of SmolLM2's 49,152, 640 of 262,144 made up
ones."""
GRAMMARS = 50_000_000
"""Bytes: 64 compiled grammars (12 MB of schemas with a dozen properties), and the process that tries new ones (22 MB,
35 after large ones; one that it refuses may take 94 within its second)."""
_PAGE = 4096


def memory_need(arch: Architecture, *, mapped_bytes: int, packed_bytes: int) -> MemoryNeed:
    """The need of a replica on the CPU.

    All experts of a mixture count as weights: a text of some length uses each of them.

    LLMOS's own operators take scratch from ONNX Runtime's arena and give it back: products their inputs in int8,
    attention its rotated queries and, in each of `MAX_SHARDS` parts, a query's scores against the whole context.

    Args:
        arch: The decoder.
        mapped_bytes: What is read where it lies in the mapped file: quantised matrices, norms, rotary tables, an
            embedding of floats.
        packed_bytes: What ONNX Runtime rearranges: float matrices that it multiplies by.
    """
    wide = _feed_forward_width(arch)
    widest = 2 * wide + 4 * arch.hidden_size + (arch.heads + 2 * arch.kv_heads) * arch.head_dim
    prompt_logits = PROMPT_COPIES * PROMPT_ROWS * arch.vocab_size
    inputs = max(arch.hidden_size, wide, arch.heads * arch.head_dim)
    if arch.experts is not None:  # inputs of all experts of a token, and results that weights add up
        inputs = max(inputs, arch.experts.used * arch.hidden_size) + arch.experts.used * arch.hidden_size
    operators = 4 * (STEP_TOKENS * inputs + MAX_SHARDS * arch.context_length)
    scratch_slot = 2 * arch.layers * arch.kv_heads * _PAGE  # a page for each head's only token
    return MemoryNeed(
        weights=mapped_bytes + int(PACKED * packed_bytes),
        kv_per_token=2 * KV_BYTES[KV_TYPE] * arch.layers * arch.kv_heads * arch.head_dim,
        activations=4 * (ACTIVATIONS_AT_ONCE * STEP_TOKENS * widest + prompt_logits) + operators + scratch_slot,
        process=PROCESS,
        per_slot=4 * LOGITS_AT_ONCE * arch.vocab_size,
        grammars=GRAMMARS + GRAMMAR_BYTES_PER_ID * arch.vocab_size,
    )


def _feed_forward_width(arch: Architecture) -> int:
    """What a token has inside its MLP, or inside its experts together."""
    experts = arch.experts
    if experts is None:
        return arch.feed_forward_size
    width = max(experts.used * experts.feed_forward_size, experts.shared_size)
    return max(width, arch.feed_forward_size) if experts.dense_layers else width
