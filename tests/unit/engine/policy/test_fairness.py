import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine.policy.fairness import ROW_WEIGHT, Tenants
from services.inference.engine.sequence import Sequence
from tests.support.factories.engines import sequence_request


def joined(tenants: Tenants, tenant: str, tokens: int = 8) -> Sequence:
    sequence = Sequence(sequence_request(f"{tenant}-{tokens}", range(tokens), tenant=tenant), now=0.0)
    tenants.join(sequence)
    return sequence


def turns(tenants: Tenants, count: int, size: int = 8) -> list[Sequence]:
    """Give out `count` chunks; prompts never end."""
    given_to = []
    for _ in range(count):
        sequence = tenants.next_prompt((), may_start=True)
        assert sequence is not None
        tenants.charge_chunk(sequence, size)
        given_to.append(sequence)
    return given_to


def test_a_tenant_with_many_prompts_gets_as_many_chunks_as_one_with_a_single_prompt():
    tenants = Tenants()
    for _ in range(9):
        joined(tenants, "flood")
    joined(tenants, "one")
    chosen = [sequence.request.tenant for sequence in turns(tenants, 20)]
    assert chosen.count("one") == 10


def test_decode_rows_count_as_work():
    tenants = Tenants()
    streams, waits = joined(tenants, "streams"), joined(tenants, "waits")
    for _ in range(10):
        tenants.charge_row(streams)
    assert set(turns(tenants, int(10 * ROW_WEIGHT) // 8)) == {waits}


def test_within_a_tenant_chunks_go_to_the_oldest_and_to_the_shortest_in_turn():
    tenants = Tenants()
    long, _, short = joined(tenants, "t", 4000), joined(tenants, "t", 300), joined(tenants, "t", 5)
    assert turns(tenants, 4) == [long, short, long, short]


def test_one_that_is_left_out_makes_way_for_the_next():
    tenants = Tenants()
    first, second = joined(tenants, "t"), joined(tenants, "t")
    assert tenants.next_prompt({first}, may_start=True) is second
    assert tenants.next_prompt({first, second}, may_start=True) is None


def test_without_a_free_slot_only_prompts_that_have_one_go_on():
    tenants = Tenants()
    waiting, running = joined(tenants, "t"), joined(tenants, "t")
    tenants.start(running)
    assert tenants.next_prompt((), may_start=False) is running
    tenants.prompt_done(running)
    assert tenants.next_prompt((), may_start=False) is None
    assert tenants.next_prompt((), may_start=True) is waiting


def test_a_tenant_that_was_idle_has_saved_nothing_up():
    tenants = Tenants()
    joined(tenants, "busy")
    turns(tenants, 100)
    joined(tenants, "late")
    assert [s.request.tenant for s in turns(tenants, 10)].count("busy") == 5


def test_preparing_requests_counts_as_work_before_and_while_a_tenant_has_sequences():
    tenants = Tenants()
    joined(tenants, "other")
    tenants.charge_preparation("prepares", 40)  # it has no sequence yet
    joined(tenants, "prepares")
    tenants.charge_preparation("prepares", 40)
    assert {s.request.tenant for s in turns(tenants, 10)} == {"other"}


def test_preparing_requests_alone_takes_nothing_from_others():
    tenants = Tenants()
    tenants.charge_preparation("alone", 1000)
    joined(tenants, "alone")
    joined(tenants, "other")
    assert [s.request.tenant for s in turns(tenants, 10)].count("alone") == 5


def test_a_tenant_that_leaves_and_returns_keeps_what_it_was_served():
    tenants = Tenants()
    joined(tenants, "other")
    greedy = joined(tenants, "greedy")
    for _ in range(100):
        tenants.charge_row(greedy)
    tenants.leave(greedy)
    joined(tenants, "greedy")
    assert {s.request.tenant for s in turns(tenants, 10)} == {"other"}


def test_counters_of_tenants_that_left_are_forgotten_once_others_caught_up():
    tenants = Tenants()
    joined(tenants, "stays")
    for index in range(50):
        guest = joined(tenants, f"guest{index}")
        tenants.charge_chunk(guest, 8)
        tenants.leave(guest)
        turns(tenants, 1)
    assert len(tenants) == 1
    assert len(tenants._left) <= 2


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), min_size=1, max_size=12),
    st.integers(1, 9),
)
def test_no_prompt_starves(prompts: list[tuple[str, int]], size: int):
    """A prompt ends after as many chunks as all tenants need for twice the chunks of its tenant's older ones."""
    tenants = Tenants()
    alive = [joined(tenants, tenant, tokens) for tenant, tokens in prompts]
    chunks = sum(-(-tokens // size) for _, tokens in prompts)
    for _ in range(chunks):
        sequence = tenants.next_prompt((), may_start=True)
        assert sequence is not None, "a prompt waits and none gets a turn"
        if sequence.computed == 0:
            tenants.start(sequence)
        step = min(size, sequence.prefill_left)
        tenants.charge_chunk(sequence, step)
        sequence.computed += step
        if not sequence.prefill_left:
            tenants.prompt_done(sequence)
            tenants.leave(sequence)
            alive.remove(sequence)
        tenants.check_integrity()
    assert alive == []


@given(st.lists(st.integers(1, 64), min_size=2, max_size=40))
def test_tenants_that_always_want_more_are_served_alike(sizes: list[int]):
    tenants = Tenants()
    joined(tenants, "a")
    joined(tenants, "b")
    served = {"a": 0, "b": 0}
    for size in sizes:
        (sequence,) = turns(tenants, 1, size)
        served[sequence.request.tenant] += size
        assert abs(served["a"] - served["b"]) <= max(sizes)


def test_leaving_twice_raises():
    tenants = Tenants()
    sequence = joined(tenants, "t")
    tenants.leave(sequence)
    with pytest.raises(KeyError):
        tenants.leave(sequence)
