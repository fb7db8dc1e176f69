"""Rows with drafts: which rows get one, how long it is, and that only the number of steps changes."""

from dataclasses import replace

import pytest

from services.inference.engine.batcher import Batcher
from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Outcome, Plan
from services.inference.engine.request import SequenceRequest, SequenceUpdate
from services.inference.engine.sampling.params import SamplingParams
from services.inference.engine.scripted_decoder import ScriptedDecoder
from services.inference.text.grammar.compiled import CompiledGrammar
from services.inference.text.grammar.source import grammar_source
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from shared.contracts.gateway import FinishReason
from shared.contracts.load import EngineLoad
from shared.contracts.replica import Grammar
from shared.text.tokenizer import Tokenizer
from tests.support.factories.engines import SMALL, EngineUnderTest, sequence_request
from tests.support.models.small_tokenizers import byte_level

LIMITS = EngineLimits(step_tokens=40, prefill_chunk=16, draft_tokens=4, row_cost=0.1, keep_slot_s=0.0)
ROUND = (1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 1, 2)
"""A prompt that goes round: 3, 4, 5, 6 probably follow."""
ONCE = (9, 2, 3, 4, 5, 6, 8, 2)
"""After a 3, only two tokens agree with those before: the proposal is less probable."""


def batcher(limits: EngineLimits = LIMITS, *, slots: int = 4, batch_invariant: bool = True) -> Batcher:
    return Batcher(slots=slots, max_len=64, vocab_size=100, limits=limits, batch_invariant=batch_invariant)


def step(b: Batcher, *decoded: tuple[int, ...], first: int = 3) -> tuple[Plan, list[SequenceUpdate]]:
    """Plan and apply; each chunk that ends a prompt chooses `first`, each row what is given."""
    plan, updates = b.plan(0.0)
    updates += b.apply(plan, Outcome(decoded, [first if chunk.samples else None for chunk in plan.prefill]), 0.0)
    b.check_integrity()
    return plan, updates


def draft_tokens_of(b: Batcher) -> list[tuple[int, ...]]:
    """Of the rows of the next step, which is not run."""
    return [row.draft for row in b.plan(0.0)[0].decode]


def running(*requests: SequenceRequest, limits: EngineLimits = LIMITS, batch_invariant: bool = True) -> Batcher:
    """A batcher whose sequences have all computed their prompts and chosen a 3."""
    b = batcher(limits, slots=max(4, len(requests)), batch_invariant=batch_invariant)
    for request in requests:
        b.admit(request, 0.0)
    while any(s.prefill_left for s in b.sequences.values()):
        plan, _ = b.plan(0.0)
        b.apply(plan, Outcome([(7,)] * len(plan.decode), [3 if c.samples else None for c in plan.prefill]), 0.0)
    return b


def test_a_lone_stream_that_repeats_itself_gets_a_draft_as_long_as_the_limit():
    assert draft_tokens_of(running(sequence_request(prompt=ROUND))) == [(4, 5, 6, 1)]


def test_a_row_and_its_draft_are_one_span_with_logits_after_each_token():
    (row,) = running(sequence_request(prompt=ROUND)).plan(0.0)[0].decode
    assert row.span == (row.slot, 14, (3, 4, 5, 6, 1), 5)


@pytest.mark.parametrize(
    "limits", [replace(LIMITS, draft_tokens=0), replace(LIMITS, row_cost=9.0)], ids=["off", "not worth its rows"]
)
def test_no_draft_where_it_is_off_or_does_not_pay(limits):
    assert draft_tokens_of(running(sequence_request(prompt=ROUND), limits=limits)) == [()]


def test_no_draft_where_a_token_depends_on_how_it_is_computed():
    assert draft_tokens_of(running(sequence_request(prompt=ROUND), batch_invariant=False)) == [()]


def test_no_draft_beside_a_chunk_of_a_prompt():
    b = running(sequence_request(prompt=ROUND))
    b.admit(sequence_request("other", ROUND), 0.0)
    plan, _ = step(b, (4,))
    assert [row.draft for row in plan.decode] == [()]
    assert plan.prefill
    assert all(draft_tokens_of(b))


def test_a_draft_leaves_space_for_the_token_that_is_chosen_after_it():
    assert draft_tokens_of(running(sequence_request(prompt=ROUND, max_tokens=3))) == [(4,)]
    assert draft_tokens_of(running(sequence_request(prompt=ROUND, max_tokens=2))) == [()]


def test_a_draft_stops_before_what_would_end_the_sequence():
    assert draft_tokens_of(running(sequence_request(prompt=ROUND, eos=(6,)))) == [(4, 5)]


def test_no_draft_completes_a_block_of_the_cache():
    limits = replace(LIMITS, cache_blocks=8)
    assert draft_tokens_of(running(sequence_request(prompt=ROUND), limits=limits)) == [()], (
        "15 tokens are computed, 16 a block"
    )
    assert draft_tokens_of(running(sequence_request(prompt=ROUND[2:]), limits=limits)) == [(4, 5)]


def test_a_step_has_no_more_rows_than_slots_and_one_longest_draft():
    requests = [sequence_request(str(index), ROUND) for index in range(4)]
    given = draft_tokens_of(running(*requests, limits=replace(LIMITS, row_cost=0.001)))
    assert sum(map(len, given)) == 4
    assert draft_tokens_of(running(*requests[:2], limits=replace(LIMITS, row_cost=0.001))) == [(4, 5, 6, 1), (4, 5)]


def test_draft_tokens_make_a_step_of_several_streams_half_as_long_again_at_most():
    """A step takes as long as 10 + 2 rows: six more are half of that."""
    requests = [sequence_request(str(index), ROUND) for index in range(2)]
    assert sum(map(len, draft_tokens_of(running(*requests, limits=replace(LIMITS, draft_tokens=10))))) == 6


def test_beside_many_rows_only_what_is_probable_is_tried():
    """A row costs a tenth of a step: a lone stream tries what is right once in eight times, one of eight does not."""
    assert draft_tokens_of(running(sequence_request(prompt=ONCE)))[0]
    others = [sequence_request(str(index), [50 + index, 70 + index]) for index in range(20)]
    assert (
        draft_tokens_of(running(sequence_request(prompt=ONCE), *others, limits=replace(LIMITS, step_tokens=80)))[0]
        == ()
    )


def test_what_is_most_probable_gets_its_draft_first():
    requests = [sequence_request("less", ONCE), sequence_request("more", ROUND), *map(sequence_request, "ab")]
    b = running(*requests, limits=replace(LIMITS, draft_tokens=2, row_cost=0.001))
    given = {row.request_id: row.draft for row in b.plan(0.0)[0].decode if row.request_id and row.draft}
    assert given == {"more": (4, 5)}


def test_a_step_delivers_what_counts_of_a_draft_and_the_token_after_it():
    b = running(sequence_request(prompt=ROUND, max_tokens=20))
    _, (update,) = step(b, (4, 5, 7))
    assert update.token_ids == (4, 5, 7)
    assert update.completion_tokens == 4
    (row,) = b.plan(0.0)[0].decode
    assert (row.token, row.position) == (7, 17), "the next step continues at the token that differs from the draft"


def test_a_sequence_ends_at_the_token_that_ends_it_whatever_was_computed_ahead():
    b = running(sequence_request(prompt=ROUND, eos=(9,)))
    _, (update,) = step(b, (4, 9, 6))
    assert update.token_ids == (4, 9)
    assert update.finish is FinishReason.STOP


def run(request: SequenceRequest, *, draft_tokens: int) -> tuple[list[SequenceUpdate], EngineLoad]:
    """Run it alone, with two tokens in the vocabulary: guesses are right about as often as not."""
    limits = replace(SMALL, draft_tokens=draft_tokens, row_cost=0.01, cache_blocks=8)
    with EngineUnderTest(ScriptedDecoder(slots=2, max_len=200, vocab_size=2), limits) as under_test:
        under_test.run(request)
        under_test.wait_idle()
        return under_test.updates[request.request_id], under_test.engine.load()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"temperature": 0.9},
        {"temperature": 0.9, "top_k": 2},
        {"temperature": 0.9, "repetition_penalty": 1.2, "frequency_penalty": 0.02, "presence_penalty": 0.1},
        {"temperature": 0.9, "logit_bias": ((1, 0.5),), "bad_words": ((0, 0, 0), (1, 1, 1))},
        {"temperature": 0.9, "min_tokens": 120, "stop_token_ids": (1,)},
    ],
    ids=lambda asked: " ".join(asked) or "greedy",
)
def test_tokens_and_their_scores_are_the_same_in_fewer_steps(asked):
    request = sequence_request(prompt=[0, 1, 0, 0, 1], max_tokens=150)
    request = replace(
        request, sampling=SamplingParams(**{"max_tokens": 150, "temperature": 0.0, "seed": 5, **asked}, logprobs=2)
    )
    (plain, load), (ahead, fast) = run(request, draft_tokens=0), run(request, draft_tokens=5)
    for name in ("token_ids", "scores"):
        expected, got = ([each for update in updates for each in getattr(update, name)] for updates in (plain, ahead))
        assert got == expected
    assert len(got) >= 120
    assert load.counters.draft_tokens == load.counters.accepted_tokens == 0
    assert 10 < fast.counters.accepted_tokens <= fast.counters.draft_tokens
    assert fast.counters.generated_tokens == len(got)
    assert fast.counters.steps == load.counters.steps - fast.counters.accepted_tokens


@pytest.mark.parametrize("pattern", ["(ab|ba){40}", "(ab|abb|b){40}"])
def test_an_answer_within_a_grammar_is_the_same_in_fewer_steps(pattern):
    """Masks depend on each token before: those of a draft are made as it is accepted."""
    tokenizer = Tokenizer(byte_level())
    tokens = grammar_tokenizer(tokenizer, vocab_size=tokenizer.vocab_size, eos_token_ids=(2,))
    grammar = CompiledGrammar(tokens, grammar_source(Grammar(kind="regex", value=pattern)))
    answers, loads = [], []
    for draft_tokens in (0, 5):
        decoder = ScriptedDecoder(slots=2, max_len=200, vocab_size=tokenizer.vocab_size)
        limits = replace(SMALL, draft_tokens=draft_tokens, row_cost=0.01)
        with EngineUnderTest(decoder, limits) as under_test:
            for seed in range(4):
                request = sequence_request(
                    str(seed), tokenizer.encode("ab abb"), max_tokens=90, temperature=1.0, seed=seed
                )
                sampling = replace(request.sampling, eos_token_ids=(2,), logprobs=1)
                under_test.run(replace(request, sampling=sampling, constraint=grammar.start()))
                updates = under_test.updates[str(seed)]
                answers.append(
                    (
                        [token for update in updates for token in update.token_ids],
                        [score for update in updates for score in update.scores],
                        updates[-1].finish,
                    )
                )
            under_test.wait_idle()
            loads.append(under_test.engine.load())
    assert answers[:4] == answers[4:]
    plain, fast = loads[0].counters, loads[1].counters
    assert fast.accepted_tokens > 10
    assert fast.steps == plain.steps - fast.accepted_tokens
