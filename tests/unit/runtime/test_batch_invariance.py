"""Whether a decoder is batch-invariant is found by trying: whatever differs is seen, and nothing is left behind."""

import numpy as np
import pytest

from services.inference.engine.scripted_decoder import ScriptedDecoder
from services.inference.runtime.batch_invariance import is_batch_invariant


def probed(decoder: ScriptedDecoder) -> bool:
    found = is_batch_invariant(decoder, lambda slot, start, count: decoder._tokens[slot, start : start + count])
    assert decoder.used_slots() == []
    return found


class Off(ScriptedDecoder):
    """Its logits are off by a bit when it computes as `where` says."""

    def __init__(self, where: str, **options: int) -> None:
        super().__init__(**options)
        self._where = where

    def compute(self, spans):
        logits = super().compute(spans)
        if self._where == "keys" and spans[0].start:
            self._tokens[spans[0].slot, spans[0].start] += self._MUCH
        return self._bit(logits) if self._where == self._kind(spans) else logits

    def _kind(self, spans):
        counts = [len(span.tokens) for span in spans]
        if len(spans) == 1:
            return "alone" if counts == [1] else "second chunk" if spans[0].start else "whole"
        return "batch" if max(counts) == 1 else "mixed"

    _MUCH = 1 << 32

    def _bit(self, logits):
        logits[-1, 0] = np.nextafter(logits[-1, 0], np.inf, dtype=np.float32)
        return logits


@pytest.mark.parametrize(("slots", "max_len"), [(1, 64), (2, 64), (7, 64), (4, 5), (1, 1)])
def test_one_that_is_batch_invariant_is_found_to_be(slots, max_len):
    assert probed(ScriptedDecoder(slots=slots, max_len=max_len))


def test_one_that_is_not_is_found_out():
    assert not probed(ScriptedDecoder(batch_invariant=False))


@pytest.mark.parametrize("where", ["alone", "batch", "mixed", "second chunk", "keys"])
def test_a_single_bit_is_enough(where):
    assert not probed(Off(where, slots=3))
    assert probed(Off("nowhere", slots=3))


def test_what_no_slot_can_show_does_not_count():
    assert probed(Off("batch", slots=1)), "one slot has no batches"
