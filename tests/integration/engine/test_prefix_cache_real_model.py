"""The prefix cache on SmolLM2: what it gives must be what computing gives, to the bit."""

import numpy as np
import pytest

from services.inference.engine.limits import EngineLimits
from services.inference.runtime.onnx_decoder import OnnxDecoder
from tests.support.factories.engines import EngineUnderTest, sequence_request
from tests.support.factories.spans import prefill
from tests.support.models.real_model import RealModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COLD = EngineLimits()
WARM = EngineLimits(cache_blocks=64)
BEGINNING = "You are a careful assistant. You answer in one short sentence and never invent facts. " * 12


def test_answers_with_a_warm_cache_equal_answers_with_a_cold_one(real_model: RealModel):
    questions = ("What is the capital of France?", "Why is the sky blue?", "Name a prime number above ten.", "")
    requests = [
        sequence_request(f"r{i}", real_model.encode(BEGINNING + text), max_tokens=12)
        for i, text in enumerate(questions)
    ]
    with EngineUnderTest(real_model.open(slots=4), COLD) as under_test:
        expected = under_test.run(*requests)
    with EngineUnderTest(real_model.open(slots=4), WARM) as under_test:
        assert under_test.run(*requests) == expected, "together, the first fills the cache and the others follow"
        followed = [under_test.updates[r.request_id][-1].cached_tokens for r in requests]
        assert sorted(followed)[1] >= 128
        under_test.updates.clear()
        assert under_test.run(*requests) == expected, "all are in the cache"
        for request in requests:
            cached = under_test.updates[request.request_id][-1].cached_tokens
            assert len(request.prompt) - 64 <= cached < len(request.prompt)


def test_the_second_turn_finds_the_first_answer_and_answers_as_if_it_had_not(real_model: RealModel):
    first = sequence_request(
        "first", real_model.encode(f"{BEGINNING}\nUser: Tell me a story.\nAssistant:"), max_tokens=150
    )
    with EngineUnderTest(real_model.open(slots=4, max_len=1024), WARM) as warm:
        beside = sequence_request("beside", real_model.encode("Once upon a time"), max_tokens=60)
        answer = warm.run(first, beside)["first"]
        prompt = [*first.prompt, *answer, *real_model.encode("\nUser: And then?\nAssistant:")]
        second = sequence_request("second", prompt, max_tokens=40)
        warm_answer = warm.run(second)["second"]
        cached = warm.updates["second"][-1].cached_tokens
        assert cached >= len(first.prompt) + len(answer) - 64, "all of the first turn but the rest of a block"
    with EngineUnderTest(real_model.open(slots=4, max_len=1024), COLD) as cold:
        assert cold.run(first)["first"] == answer
        assert cold.run(second)["second"] == warm_answer


def test_rows_leave_in_a_slot_what_chunks_leave_there(real_model: RealModel):
    decoder = real_model.open(slots=2, max_len=256)
    try:
        assert decoder.batch_invariant
        tokens = real_model.encode(BEGINNING)[:200]
        for start in range(0, 200, 64):
            prefill(decoder, 0, tokens[start : start + 64], start)
        expected = decoder._kv.read(1, 200)  # slot 0, for the scratch slot lies before it
        decoder.release(0)
        prefill(decoder, 0, tokens[:50])
        for position in range(50, 200):
            neighbour = [7] * (position % 2)  # alone, and in a batch
            decoder.decode([tokens[position], *neighbour], [position, *([0] * len(neighbour))])
        assert np.array_equal(decoder._kv.read(1, 200), expected)
    finally:
        decoder.close()


def test_a_turn_of_a_conversation_computes_only_what_is_new(real_model: RealModel):
    with EngineUnderTest(real_model.open(slots=2, max_len=1024), WARM) as under_test:
        prompt, before = real_model.encode(BEGINNING), 0
        for turn in range(4):
            prompt = prompt + real_model.encode(f"\nUser: question {turn}, please?\nAssistant:")
            name = f"turn{turn}"
            answer = under_test.run(sequence_request(name, prompt, max_tokens=8))[name]
            computed = len(prompt) - under_test.updates[name][-1].cached_tokens
            if turn:
                assert computed <= len(prompt) - before + 64, "more than the new tokens and the rest of a block"
            prompt = [*prompt, *answer]
            before = len(prompt)


def test_a_block_comes_back_with_every_bit(real_model: RealModel):
    decoder: OnnxDecoder = real_model.open(slots=3, max_len=200)
    try:
        decoder.reserve_blocks(4, 64)
        prompt = real_model.encode(BEGINNING)[:193]
        for start in range(0, 192, 64):
            prefill(decoder, 0, prompt[start : start + 64], start)
            decoder.store(0, start, start // 64)
        expected = prefill(decoder, 0, prompt[192:], 192)
        assert expected is not None
        expected = expected.copy()
        decoder.release(0)
        for start in (128, 0, 64):
            decoder.fetch(start // 64, 2, start)
        assert np.array_equal(prefill(decoder, 2, prompt[192:], 192), expected)
    finally:
        decoder.close()
