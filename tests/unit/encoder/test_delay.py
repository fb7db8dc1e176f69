"""A deployment may ask that texts wait for others, and how many are computed at once."""

import numpy as np

from services.inference.encoder.batcher import EncoderBatcher
from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.request import EncodeRequest, TokenRow


def request(name, *lengths):
    return EncodeRequest(name, tuple(TokenRow(np.zeros(length, np.int64)) for length in lengths))


def test_texts_wait_until_their_time_or_until_a_batch_is_full():
    batcher = EncoderBatcher(EncoderLimits(max_batch=3, max_delay_s=0.5), max_len=16)
    batcher.admit(request("a", 8), 10.0)
    assert batcher.due(10.1) == 10.5
    batcher.admit(request("b", 8), 10.2)
    assert batcher.due(10.2) == 10.5
    batcher.admit(request("c", 8, 8), 10.3)
    assert batcher.due(10.3) == 10.3
    batch = batcher.plan(10.3)
    assert batch is not None
    assert batch.size == 3
    batcher.check_integrity()


def test_without_a_delay_nothing_waits():
    batcher = EncoderBatcher(EncoderLimits(), max_len=16)
    batcher.admit(request("a", 8), 10.0)
    assert batcher.due(10.0) == 10.0
