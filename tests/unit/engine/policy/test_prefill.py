"""Prompts beside streams: how much of them a step computes, and what they share."""

import pytest

from services.inference.engine.plan import Plan
from tests.support.factories.engines import sequence_request
from tests.unit.engine.policy.timed import TOKEN_S, Timed, batcher


def beside_a_stream(**options) -> Timed:
    """A stream runs, and the speed of prompts is known."""
    timed = Timed(batcher(**{"slots": 4, "cache_blocks": 16, "least_piece": 2, **options}))
    timed.batcher.admit(sequence_request("stream", [1, 2, 3], max_tokens=60), timed.now)
    timed.step()
    return timed


def pieces_of(plans: list[Plan], name: str) -> list[int]:
    return [len(chunk.tokens) for plan in plans for chunk in plan.prefill if chunk.request_id == name]


def until_first_token(timed: Timed, name: str) -> list[Plan]:
    plans = []
    while name not in timed.first:
        plans.append(timed.step())
    return plans


@pytest.mark.parametrize(("in_time", "pieces"), [(3, [3, 3, 2, 3, 3, 2, 3, 1]), (1, [2] * 10), (8, [8, 8, 4])])
def test_a_chunk_that_takes_too_long_is_cut_where_that_changes_no_bit(in_time, pieces):
    timed = beside_a_stream(batch_invariant=True, step_s=(in_time + 0.5) * TOKEN_S)
    timed.batcher.admit(sequence_request("long", range(20)), timed.now)
    assert pieces_of(until_first_token(timed, "long"), "long") == pieces


def test_a_chunk_is_whole_where_numbers_depend_on_cuts():
    timed = beside_a_stream(batch_invariant=False, step_s=3.5 * TOKEN_S)
    timed.batcher.admit(sequence_request("long", range(20)), timed.now)
    assert pieces_of(until_first_token(timed, "long"), "long") == [8, 8, 4]


def test_a_chunk_is_whole_while_no_stream_waits():
    timed = beside_a_stream(batch_invariant=True, step_s=3.5 * TOKEN_S)
    timed.batcher.cancel("stream")
    timed.step()
    timed.batcher.admit(sequence_request("long", range(20)), timed.now)
    assert pieces_of(until_first_token(timed, "long"), "long") == [8, 12]


def test_a_step_lasts_no_longer_than_it_may_for_a_slow_model():
    step_s = 4 * TOKEN_S
    timed = beside_a_stream(batch_invariant=True, step_s=step_s)
    for index in range(3):
        timed.batcher.admit(sequence_request(f"long{index}", [index] * 20), timed.now)
    while "long2" not in timed.first:
        begun = timed.now
        plan = timed.step()
        decode_s = TOKEN_S * (1 + len(plan.decode)) / 2
        assert timed.now - begun <= step_s + decode_s + 1e-9


def test_what_was_computed_in_pieces_is_cached_as_whole_blocks():
    timed = beside_a_stream(batch_invariant=True, step_s=3.5 * TOKEN_S)
    timed.batcher.admit(sequence_request("long", range(20)), timed.now)
    until_first_token(timed, "long")
    timed.batcher.admit(sequence_request("again", range(20)), timed.now)
    assert sum(pieces_of(until_first_token(timed, "again"), "again")) == 20 - 16


def test_of_prompts_that_begin_alike_one_computes_the_pieces_and_others_follow():
    timed = beside_a_stream(batch_invariant=True, step_s=3.5 * TOKEN_S)
    for name in "abc":
        timed.batcher.admit(sequence_request(name, [*range(16), *name.encode()], tenant=name), timed.now)
    plans = []
    while not {"a", "b", "c"} <= timed.first.keys():
        plans.append(timed.step())
    assert sum(sum(pieces_of(plans, name)) for name in "abc") == 16 + 3


def test_others_go_on_when_the_one_that_computes_their_beginning_is_cancelled():
    timed = beside_a_stream(batch_invariant=True, step_s=3.5 * TOKEN_S)
    for name in "ab":
        timed.batcher.admit(sequence_request(name, [*range(16), *name.encode()], tenant=name), timed.now)
    timed.step()
    timed.batcher.cancel("a")
    assert sum(pieces_of(until_first_token(timed, "b"), "b")) == 17
