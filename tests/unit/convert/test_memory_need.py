"""What a decoder's replica asks for beside its weights."""

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.memory_need import memory_need
from operators.build import MAX_SHARDS
from shared.contracts.manifest import MemoryNeed


def need(vocab_size: int, *, context_length: int = 128) -> MemoryNeed:
    arch = Architecture(
        family="llama",
        hidden_size=64,
        feed_forward_size=128,
        heads=4,
        kv_heads=2,
        head_dim=16,
        vocab_size=vocab_size,
        context_length=context_length,
        norm_epsilon=1e-5,
        rotary_interleaved=False,
        attention=(),
        tied_head=True,
    )
    return memory_need(arch, mapped_bytes=1000, packed_bytes=1000)


def test_structured_output_is_asked_for_by_the_size_of_the_vocabulary():
    small, large = need(49_152), need(262_144)
    assert small.grammars >= 60_000_000
    assert large.grammars - small.grammars >= 600 * (262_144 - 49_152)


def test_structured_output_is_a_part_of_the_sum():
    whole = need(49_152)
    without = whole.model_copy(update={"grammars": 0})
    assert whole.replica_bytes(slots=4, max_len=64) - without.replica_bytes(slots=4, max_len=64) == whole.grammars


def test_scores_of_a_long_context_are_a_part_of_the_sum():
    scores = MAX_SHARDS * 4 * 131_072
    assert need(1000, context_length=131_072).activations - need(1000, context_length=128).activations > 0.9 * scores
