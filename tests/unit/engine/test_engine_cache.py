"""The prefix cache, turns and preemption, in a running engine."""

from dataclasses import replace

import pytest

from services.inference.engine.scripted_decoder import ScriptedDecoder
from tests.support.factories.engines import SMALL, EngineUnderTest, sequence_request

CACHED = replace(SMALL, cache_blocks=32)
BEGINNING = list(range(20))


def decoder(slots: int = 4, *, batch_invariant: bool = True) -> ScriptedDecoder:
    return ScriptedDecoder(slots=slots, max_len=64, vocab_size=64, batch_invariant=batch_invariant)


@pytest.mark.parametrize("batch_invariant", [True, False])
def test_a_prompt_that_was_computed_before_is_copied_but_for_its_last_chunk(batch_invariant):
    with EngineUnderTest(decoder(batch_invariant=batch_invariant), CACHED) as under_test:
        expected = under_test.run(sequence_request("a", BEGINNING))["a"]
        assert under_test.updates["a"][-1].cached_tokens == 0
        assert under_test.run(sequence_request("b", BEGINNING))["b"] == expected
        assert under_test.updates["b"][-1].cached_tokens == 16
        load = under_test.engine.load()
        counted = load.counters
        assert (counted.cached_tokens, counted.looked_up_tokens, counted.prompt_tokens) == (16, 40, 24)
        assert (load.cached_blocks, load.cache_blocks) == (2 + batch_invariant, 32), (
            "of the answer's, where that may be"
        )


def test_a_prompt_of_full_chunks_still_computes_its_last_token():
    with EngineUnderTest(decoder(), CACHED) as under_test:
        expected = under_test.run(sequence_request("a", BEGINNING[:16]))["a"]
        assert under_test.run(sequence_request("b", BEGINNING[:16]))["b"] == expected
        assert under_test.updates["b"][-1].cached_tokens == 8


def test_prompts_that_begin_alike_are_computed_once_even_when_they_come_together():
    requests = [sequence_request(f"r{i}", [*BEGINNING[:16], 30 + i], max_tokens=3) for i in range(4)]
    with EngineUnderTest(decoder()) as cold:
        expected = cold.run(*requests)
    with EngineUnderTest(decoder(), CACHED) as warm:
        assert warm.run(*requests) == expected
        assert warm.engine.load().counters.prompt_tokens == 16 + 4


@pytest.mark.parametrize("batch_invariant", [True, False])
def test_a_conversation_pays_only_for_its_new_tokens(batch_invariant):
    prompt, new = list(BEGINNING), list(BEGINNING)
    with (
        EngineUnderTest(ScriptedDecoder(slots=1, max_len=256, batch_invariant=batch_invariant)) as cold,
        EngineUnderTest(ScriptedDecoder(slots=2, max_len=256, batch_invariant=batch_invariant), CACHED) as warm,
    ):
        for turn in range(8):
            request = sequence_request(f"turn{turn}", prompt, max_tokens=14)
            answer = warm.run(request)[request.request_id]
            assert answer == cold.run(request)[request.request_id]
            computed = len(prompt) - warm.updates[request.request_id][-1].cached_tokens
            assert computed <= len(new) + 7, "the new tokens, and the rest of a block"
            # A batch-invariant decoder's answers are stored, without the last token: it was not computed.
            new = [*answer[-1 if batch_invariant else 0 :], 5, 6, 7]
            prompt += [*answer, 5, 6, 7]


def test_an_answer_that_is_cancelled_is_cached_as_far_as_it_came():
    request = sequence_request("a", BEGINNING, max_tokens=44)
    with EngineUnderTest(decoder(1)) as cold:
        whole = cold.run(request)["a"]
    with EngineUnderTest(ScriptedDecoder(slots=1, max_len=64, token_s=0.002), CACHED) as under_test:
        under_test.engine.submit(request)
        under_test.wait("a", lambda updates: len(updates) >= 22)
        under_test.engine.cancel("a")
        under_test.finish("a")
        follows = sequence_request("b", [*BEGINNING, *whole[:30]], max_tokens=14)
        assert under_test.run(follows)["b"] == whole[30:]
        assert under_test.updates["b"][-1].cached_tokens >= 40
        under_test.engine._batcher.check_integrity()


def test_a_step_that_fails_keeps_no_block():
    class Failing(ScriptedDecoder):
        calls = 0

        def compute(self, spans):
            self.calls += len(spans[0].tokens) == 1
            if self.calls == 4:  # the row that completes the third block
                raise RuntimeError("no")
            return super().compute(spans)

    with EngineUnderTest(Failing(slots=1, max_len=64), CACHED) as under_test:
        under_test.run(sequence_request("a", BEGINNING))
        assert under_test.updates["a"][-1].error is not None
        assert under_test.engine.load().cached_blocks == 2
        under_test.engine._batcher.check_integrity()


@pytest.mark.parametrize("cut", [1, 4, 11, 20])
@pytest.mark.parametrize("batch_invariant", [True, False])
def test_a_resumed_answer_comes_from_the_cache_where_it_is_stored(batch_invariant, cut):
    request = sequence_request("a", BEGINNING, max_tokens=30, temperature=0.8, seed=3)
    with EngineUnderTest(decoder(batch_invariant=batch_invariant), CACHED) as under_test:
        whole = under_test.run(request)["a"]
        steps = under_test.engine.load().counters.steps
        rest = under_test.run(replace(request, request_id="b", resumed=whole[:cut]))["b"]
        assert rest == whole[cut:]
        last = under_test.updates["b"][-1]
        assert last.completion_tokens == 30
        # A prompt's last block is not copied unless tokens follow that are computed like a prompt's.
        assert last.cached_tokens == (20 if batch_invariant and cut >= 5 else 16), "no more than the prompt has"
        taken = under_test.engine.load().counters.steps - steps
        assert taken == (30 - cut if batch_invariant else 30), "one step for each token, after one for what it had"


def test_another_salt_finds_nothing():
    with EngineUnderTest(decoder(), CACHED) as under_test:
        under_test.run(sequence_request("a", BEGINNING, cache_salt="one"))
        under_test.run(sequence_request("b", BEGINNING, cache_salt="two"))
        assert under_test.updates["b"][-1].cached_tokens == 0


def test_a_request_for_the_logits_of_its_prompt_computes_all_of_it():
    with EngineUnderTest(decoder(), CACHED) as under_test:
        request = sequence_request("a", BEGINNING)
        under_test.run(request)
        scored = replace(request, request_id="b", sampling=replace(request.sampling, prompt_logprobs=0))
        under_test.run(scored)
        assert under_test.updates["b"][-1].cached_tokens == 0
        assert sum(len(update.prompt_scores) for update in under_test.updates["b"]) == len(BEGINNING)


def test_a_cache_that_is_too_small_changes_no_answer():
    requests = [sequence_request(f"r{i}", [i % 3, *BEGINNING], max_tokens=5) for i in range(12)]
    with EngineUnderTest(decoder()) as cold:
        expected = cold.run(*requests)
    with EngineUnderTest(decoder(), replace(SMALL, cache_blocks=1)) as warm:
        assert warm.run(*requests) == expected
        assert warm.engine.load().cached_blocks == 1


@pytest.mark.parametrize("slots", [2, 3])
def test_a_preempted_sequence_goes_on_as_if_it_had_never_stopped(slots: int):
    flood = [sequence_request(f"f{i}", [i, *BEGINNING], max_tokens=40, tenant="flood") for i in range(2 * slots)]
    light = sequence_request("light", [3, 2, 1], max_tokens=4, tenant="light")
    with EngineUnderTest(decoder(1)) as alone:
        expected = {request.request_id: alone.run(request)[request.request_id] for request in (*flood, light)}
    with EngineUnderTest(ScriptedDecoder(slots=slots, max_len=64, token_s=0.001), CACHED) as under_test:
        for request in flood:
            under_test.engine.submit(request)
        under_test.wait("f0", lambda updates: len(updates) >= 3)
        under_test.engine.submit(light)
        assert under_test.tokens("light") == expected["light"]
        assert not any(updates[-1].finish for name, updates in under_test.updates.items() if name != "light")
        assert {request.request_id: under_test.tokens(request.request_id) for request in flood} == {
            name: tokens for name, tokens in expected.items() if name != "light"
        }
        under_test.wait_idle()
        assert under_test.engine.load().free_slots == slots


def test_a_preempted_sequence_can_be_cancelled():
    with EngineUnderTest(ScriptedDecoder(slots=2, max_len=64, token_s=0.002), CACHED) as under_test:
        for name in ("f0", "f1"):
            under_test.engine.submit(sequence_request(name, BEGINNING, max_tokens=40, tenant="flood"))
            under_test.wait(name, lambda updates: len(updates) >= 2)
        assert under_test.engine.load().counters.preemptions == 0
        under_test.engine.submit(sequence_request("light", [1], max_tokens=30, tenant="light"))
        under_test.wait("light", bool)
        load = under_test.engine.load()
        assert (load.waiting, load.counters.preemptions) == (1, 1)
        for name in ("f0", "f1", "light"):
            under_test.engine.cancel(name)
            under_test.finish(name)
        under_test.wait_idle()
        under_test.engine._batcher.check_integrity()
        assert under_test.engine.load().free_slots == 2
