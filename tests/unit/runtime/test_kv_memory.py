"""Pages of keys and values come from the system when they are written, and go back when their slot is free."""

import numpy as np
import psutil
import pytest

from services.inference.runtime.kv import HostKv
from shared.contracts.manifest import DecoderSpec

MIB = 1 << 20
SLOTS, MAX_LEN = 8, 2048
SPEC = DecoderSpec(
    layers=8, heads=4, kv_heads=2, head_dim=64, hidden_size=256, vocab_size=100, context_length=MAX_LEN
)


def resident() -> int:
    return psutil.Process().memory_info().rss


def test_a_token_takes_half_in_float16():
    assert SPEC.model_copy(update={"kv_type": "float16"}).kv_bytes_per_token * 2 == SPEC.kv_bytes_per_token


@pytest.mark.parametrize("kept", ["float16", "float32"])
def test_untouched_slots_cost_nothing_and_freed_ones_give_their_pages_back(kept):
    spec = SPEC.model_copy(update={"kv_type": kept})
    slot_bytes = MAX_LEN * spec.kv_bytes_per_token
    before = resident()
    kv = HostKv(spec, slots=SLOTS, max_len=MAX_LEN)
    assert resident() - before < 2 * MIB
    for slot in range(SLOTS):
        kv.view(slot, 0, MAX_LEN)[...] = slot + 1
    assert 0.95 * SLOTS * slot_bytes < resident() - before < SLOTS * slot_bytes + 8 * MIB
    for slot in range(0, SLOTS, 2):
        kv.release(slot)
    half = SLOTS // 2 * slot_bytes
    assert resident() - before < half + 8 * MIB
    assert all(np.all(kv.view(slot, 0, MAX_LEN) == slot + 1) for slot in range(1, SLOTS, 2)), "a neighbour was hurt"
    for slot in range(1, SLOTS, 2):
        kv.release(slot)
    assert resident() - before < 8 * MIB


def test_a_short_sequence_costs_its_own_tokens_and_not_the_whole_slot():
    kv = HostKv(SPEC, slots=SLOTS, max_len=MAX_LEN)
    before = resident()
    kv.view(3, 0, 64)[...] = 1.0
    # 64 tokens of a head fill 4 pages exactly; where they do not begin on a page they touch one more.
    assert resident() - before <= 64 * SPEC.kv_bytes_per_token * 5 // 4 + MIB
