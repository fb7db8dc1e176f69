import pytest

from services.inference.engine.batcher import Batcher
from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Move, Outcome, Plan
from services.inference.engine.request import SequenceUpdate
from shared.contracts.gateway import FinishReason
from shared.errors import Conflict, ContextLengthExceeded, Internal, InvalidInput, Overloaded
from tests.support.factories.engines import sequence_request


def batcher(slots: int = 4, *, batch_invariant: bool = False, **limits: float) -> Batcher:
    defaults = {
        "step_tokens": 16,
        "prefill_chunk": 8,
        "max_waiting": 8,
        "max_queued_tokens": 1000,
        "keep_slot_s": 0.0,
    }
    return Batcher(
        slots=slots,
        max_len=64,
        vocab_size=100,
        limits=EngineLimits(**{**defaults, **limits}),
        batch_invariant=batch_invariant,
    )


def step(b: Batcher, token: int = 9, *, now: float = 0.0) -> tuple[Plan, list[SequenceUpdate]]:
    """Plan and apply, choosing `token` everywhere."""
    plan, updates = b.plan(now)
    prefilled = [token if chunk.samples else None for chunk in plan.prefill]
    updates += b.apply(plan, Outcome([(token,)] * len(plan.decode), prefilled), now)
    b.check_integrity()
    return plan, updates


def chunks(plan: Plan) -> list[tuple[str, int, int, bool]]:
    return [(c.request_id, c.start, len(c.tokens), c.last) for c in plan.prefill]


def test_a_long_prompt_is_computed_in_chunks_of_fixed_size():
    b = batcher()
    b.admit(sequence_request("a", range(20)), 0.0)
    assert [chunks(step(b)[0]) for _ in range(3)] == [
        [("a", 0, 8, False)],
        [("a", 8, 8, False)],
        [("a", 16, 4, True)],
    ]


def test_running_sequences_advance_in_every_step_of_a_long_prefill():
    b = batcher()
    b.admit(sequence_request("short", [1]), 0.0)
    step(b)
    b.admit(sequence_request("long", range(30)), 0.0)
    for _ in range(4):
        plan, updates = step(b)
        assert len(plan.decode) == 1
        assert next(u.request_id for u in updates if u.token_ids) == "short"


def test_short_prompts_share_a_step_within_the_budget():
    b = batcher()
    for name in "abcd":
        b.admit(sequence_request(name, range(5)), 0.0)
    plan, _ = step(b)
    assert chunks(plan) == [("a", 0, 5, True), ("b", 0, 5, True)]
    plan, _ = step(b)
    assert len(plan.decode) == 2
    assert chunks(plan) == [("c", 0, 5, True), ("d", 0, 5, True)]
    assert plan.token_count <= 16


def test_the_next_prompt_takes_the_hole_as_a_padding_row():
    b = batcher(slots=2)
    b.admit(sequence_request("a", [1], max_tokens=2), 0.0)
    b.admit(sequence_request("b", [2], max_tokens=9), 0.0)
    b.admit(sequence_request("c", range(12), max_tokens=3), 0.0)
    step(b)
    step(b)  # a ends and leaves slot 0
    plan, _ = step(b)
    assert plan.moves == ()
    assert [(row.request_id, row.position) for row in plan.decode] == [(None, 0), ("b", 2)]
    plan, _ = step(b)
    assert [(row.request_id, row.position) for row in plan.decode] == [(None, 8), ("b", 3)]
    plan, _ = step(b)
    assert [row.request_id for row in plan.decode if row.request_id] == ["c", "b"]


def test_a_hole_that_no_prompt_takes_is_filled_by_the_last_slot():
    b = batcher()
    b.admit(sequence_request("a", [1], max_tokens=2), 0.0)
    b.admit(sequence_request("b", [2, 3], max_tokens=9), 0.0)
    step(b)
    step(b)
    plan, _ = step(b)
    assert plan.moves == (Move(1, 0, 3),)
    assert plan.vacated == (1,)
    assert [row.request_id for row in plan.decode if row.request_id] == ["b"]


def test_the_last_sequence_gives_its_memory_back():
    b = batcher()
    b.admit(sequence_request("a", [1], max_tokens=1), 0.0)
    step(b)
    assert b.idle_s(0.0) == 0.0
    plan, _ = step(b)
    assert plan.vacated == (0,)
    assert b.idle_s(0.0) is None


def test_a_free_slot_keeps_its_memory_for_a_while():
    b = batcher(keep_slot_s=2.0, slots=2)
    b.admit(sequence_request("a", [1], max_tokens=1), 5.0)
    b.admit(sequence_request("b", [1], max_tokens=1), 5.0)
    step(b, now=5.0)
    assert b.idle_s(5.5) == 1.5
    b.admit(sequence_request("c", [1], max_tokens=1), 6.0)
    assert step(b, now=6.0)[0].vacated == ()
    assert b.idle_s(6.0) == 1.0
    assert step(b, now=7.0)[0].vacated == (1,), "c had the other one in between"
    assert step(b, now=8.0)[0].vacated == (0,)
    assert b.idle_s(8.0) is None


def test_a_lone_prompt_is_one_chunk_as_far_as_the_step_goes_and_keeps_all_its_blocks():
    b = batcher(batch_invariant=True, step_tokens=40, cache_blocks=9)
    b.admit(sequence_request("a", range(30), max_tokens=2), 0.0)
    plan, _ = step(b)
    assert chunks(plan) == [("a", 0, 30, True)]
    assert [(store.slot, store.start) for store in plan.prefill[0].stores] == [(0, 0), (0, 8), (0, 16)]
    assert b.cached_blocks == 3
    b.admit(sequence_request("b", [*range(24), *range(40, 70)], max_tokens=2), 0.0)
    plan, _ = step(b)
    assert [copy.start for copy in plan.copies] == [0, 8, 16]
    assert chunks(plan) == [("b", 24, 8, False)], "a is a stream, and waits"


def test_rows_of_a_batch_invariant_decoder_stay_where_they_are():
    b = batcher(slots=3, batch_invariant=True)
    for name, count in (("a", 2), ("b", 9), ("c", 9)):
        b.admit(sequence_request(name, [1], max_tokens=count), 0.0)
    b.admit(sequence_request("d", range(12), max_tokens=3), 0.0)
    step(b)
    step(b)  # a ends and leaves slot 0
    plan, _ = step(b)
    assert plan.moves == ()
    assert [(row.request_id, row.slot) for row in plan.decode] == [("b", 1), ("c", 2)]
    assert [(chunk.request_id, chunk.slot) for chunk in plan.prefill] == [("d", 0)]


def test_resumed_tokens_are_computed_again_as_decode_rows_without_updates():
    b = batcher()
    b.admit(sequence_request("a", [1, 2], resumed=[5, 6], max_tokens=4), 0.0)
    plan, updates = step(b)
    assert not plan.prefill[0].samples
    assert updates == []
    rows = []
    while not updates:
        plan, updates = step(b)
        rows.append((plan.decode[0].token, plan.decode[0].position))
    assert rows == [(5, 2), (6, 3)]
    assert (updates[0].token_ids, updates[0].completion_tokens) == ((9,), 3)


def test_a_batch_invariant_decoder_computes_resumed_tokens_in_chunks_with_the_prompt():
    b = batcher(batch_invariant=True)
    b.admit(sequence_request("a", [1, 2], resumed=range(3, 21), max_tokens=20), 0.0)
    assert b.queued_tokens == 20
    plan, updates = step(b)
    assert (chunks(plan), updates) == ([("a", 0, 8, False)], [])
    plan, updates = step(b)
    assert chunks(plan) == [("a", 8, 12, True)]
    assert [(u.token_ids, u.completion_tokens, u.prompt_tokens) for u in updates] == [((9,), 19, 2)]
    plan, _ = step(b)
    assert [(row.token, row.position) for row in plan.decode] == [(9, 20)]


def test_a_short_rest_goes_with_the_chunk_before_where_the_decoder_is_batch_invariant():
    b = batcher(batch_invariant=True, cache_blocks=8)
    b.admit(sequence_request("a", range(10, 29), max_tokens=1), 0.0)
    assert [chunks(step(b)[0]) for _ in range(2)] == [[("a", 0, 8, False)], [("a", 8, 11, True)]]
    assert b.cached_blocks == 2
    b.admit(sequence_request("b", [*range(10, 26), 1, 2], max_tokens=1), 0.0)
    plan, _ = step(b)
    assert [copy.start for copy in plan.copies] == [0, 8], "its second block is found, though more came with it"
    assert chunks(plan) == [("b", 16, 2, True)]


def test_a_block_that_rows_complete_is_stored_from_where_it_begins():
    b = batcher(batch_invariant=True, cache_blocks=8)
    b.admit(sequence_request("other", range(30, 34), max_tokens=30), 0.0)
    b.admit(sequence_request("a", range(12), max_tokens=30), 0.0)
    stores = []
    for _ in range(14):
        plan, _ = step(b)
        stores += [
            (row.request_id, row.store.slot, row.store.start, row.position)
            for row in plan.decode
            if row.request_id and row.store
        ]
    assert stores == [("other", 0, 0, 7), ("a", 1, 8, 15), ("other", 0, 8, 15), ("a", 1, 16, 23)]
    assert b.cached_blocks == 5, "and the chunk of a prompt"


@pytest.mark.parametrize(
    ("resumed", "max_tokens", "finish"), [((5, 7), 9, FinishReason.STOP), ((5, 6), 2, FinishReason.LENGTH)]
)
def test_a_resumed_sequence_that_was_complete_ends_without_a_step(resumed, max_tokens, finish):
    b = batcher()
    b.admit(sequence_request("a", [1], resumed=resumed, max_tokens=max_tokens, eos=(7,)), 0.0)
    b.check_integrity()
    plan, updates = step(b)
    assert not plan
    assert [(u.finish, u.token_ids, u.completion_tokens) for u in updates] == [(finish, (), 2)]


def test_a_cancelled_sequence_that_was_complete_ends_once():
    b = batcher()
    b.admit(sequence_request("a", [1], resumed=(5,), max_tokens=1), 0.0)
    b.cancel("a")
    assert [u.finish for u in step(b)[1]] == [FinishReason.CANCELLED]
    assert step(b)[1] == []


def test_cancel_between_plan_and_apply_drops_the_token_and_frees_the_slot():
    b = batcher()
    b.admit(sequence_request("a", [1]), 0.0)
    step(b)
    plan, _ = b.plan(0.0)
    assert b.cancel("a")
    updates = b.apply(plan, Outcome([(9,)]), 0.0)
    assert [(u.finish, u.token_ids) for u in updates] == [(FinishReason.CANCELLED, ())]
    assert b.free_slots == 4
    assert not b.cancel("a")


def test_cancel_of_a_waiting_sequence_takes_it_from_the_queue():
    b = batcher(slots=1)
    b.admit(sequence_request("a", [1]), 0.0)
    b.admit(sequence_request("b", [1]), 0.0)
    step(b)
    b.cancel("b")
    _, updates = step(b)
    assert next((u.request_id, u.finish) for u in updates) == ("b", FinishReason.CANCELLED)
    assert b.waiting == 0


def test_a_failed_decode_ends_its_sequences_and_spares_the_prefill():
    b = batcher()
    b.admit(sequence_request("a", [1]), 0.0)
    step(b)
    b.admit(sequence_request("b", [1]), 0.0)
    plan, _ = b.plan(0.0)
    updates = b.apply(plan, Outcome(Internal("no"), [9]), 0.0)
    b.check_integrity()
    assert [(u.request_id, u.finish, u.error is not None) for u in updates] == [
        ("a", FinishReason.ERROR, True),
        ("b", None, False),
    ]


def test_a_failed_prefill_ends_one_sequence():
    b = batcher()
    b.admit(sequence_request("a", [1]), 0.0)
    b.admit(sequence_request("b", [1]), 0.0)
    plan, _ = b.plan(0.0)
    updates = b.apply(plan, Outcome((), [Internal("no"), 9]), 0.0)
    assert [(u.request_id, u.finish) for u in updates] == [("a", FinishReason.ERROR), ("b", None)]


def test_what_does_not_fit_a_slot_is_refused_with_the_numbers():
    with pytest.raises(
        ContextLengthExceeded,
        match=r"length is 64 tokens.*60 tokens and max_tokens is 5: together 65",
    ):
        batcher().admit(sequence_request(prompt=[1] * 60, max_tokens=5), 0.0)


def test_what_fits_a_slot_exactly_is_taken_and_ends_with_its_slot_full():
    b = batcher()
    b.admit(sequence_request("a", [1] * 60, max_tokens=4), 0.0)
    last = [update for _ in range(12) for update in step(b)[1]][-1]
    assert (last.finish, last.completion_tokens) == (FinishReason.LENGTH, 4)


@pytest.mark.parametrize("prompt", [[], [100], [-1]])
def test_a_prompt_that_is_none_is_refused(prompt):
    with pytest.raises(InvalidInput):
        batcher().admit(sequence_request(prompt=prompt), 0.0)


def test_an_id_that_is_alive_is_refused():
    b = batcher()
    b.admit(sequence_request("a"), 0.0)
    with pytest.raises(Conflict):
        b.admit(sequence_request("a"), 0.0)


def test_the_queue_is_bounded_in_sequences():
    b = batcher(slots=1, max_waiting=4)  # of which one tenant may fill half
    for index in range(3):  # one takes the free slot, two wait
        b.admit(sequence_request(f"r{index}"), 0.0)
    with pytest.raises(Overloaded) as caught:
        b.admit(sequence_request("r3"), 0.0)
    assert caught.value.retry_after is not None
    step(b)
    with pytest.raises(Overloaded):
        b.admit(sequence_request("r3"), 0.0)


def test_the_queue_is_bounded_in_tokens_but_takes_one_prompt_always():
    b = batcher(max_queued_tokens=10)
    b.admit(sequence_request("big", range(30)), 0.0)
    with pytest.raises(Overloaded, match="30 prompt tokens wait"):
        b.admit(sequence_request("small", [1]), 0.0)
    for _ in range(4):
        step(b)
    b.admit(sequence_request("small", [1]), 0.0)


def test_limits_that_starve_the_prefill_are_refused():
    with pytest.raises(InvalidInput, match="step_tokens is 16, but 12 running"):
        batcher(slots=12)
