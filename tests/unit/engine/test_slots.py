import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine.plan import Move
from services.inference.engine.sequence import Sequence
from services.inference.engine.slots import Slots
from tests.support.factories.engines import sequence_request


def take(slots: Slots, name: str = "r", computed: int = 0) -> Sequence:
    sequence = Sequence(sequence_request(name), now=0.0)
    sequence.start(slots.take(sequence), now=0.0)
    sequence.computed = computed
    return sequence


def test_the_lowest_hole_is_taken_first():
    slots = Slots(4)
    first, second, _ = take(slots), take(slots), take(slots)
    slots.release(second, 0.0)
    slots.release(first, 0.0)
    assert take(slots).slot == 0


def test_compact_fills_holes_with_the_highest_slots():
    slots = Slots(5)
    sequences = [take(slots, f"r{i}", computed=10 + i) for i in range(5)]
    slots.release(sequences[0], 0.0)
    slots.release(sequences[2], 0.0)
    assert slots.compact(0.0) == [Move(4, 0, 14), Move(3, 2, 13)]
    assert [s.slot for s in slots.occupied()] == [0, 1, 2]


def test_a_slot_is_named_as_vacated_once_and_only_while_it_is_free():
    slots = Slots(3)
    first, second = take(slots), take(slots)
    slots.release(second, 1.0)
    assert slots.vacated_at == 1.0
    assert slots.vacated(until=0.9) == []
    assert slots.vacated(until=1.0) == [1]
    assert slots.vacated(until=9.0) == []
    slots.release(first, 2.0)
    take(slots)
    assert slots.vacated(until=9.0) == []
    assert slots.vacated_at is None


def test_the_slot_that_a_move_left_is_vacated():
    slots = Slots(2)
    first, _ = take(slots), take(slots)
    slots.release(first, 0.0)
    slots.compact(1.0)
    assert slots.vacated(until=0.0) == []
    assert slots.vacated(until=1.0) == [1]


def test_release_by_a_stranger_raises():
    slots = Slots(1)
    stranger = Sequence(sequence_request(), now=0.0)
    stranger.slot = 0
    with pytest.raises(RuntimeError, match="does not own"):
        slots.release(stranger, 0.0)


def test_taking_from_full_slots_raises():
    slots = Slots(1)
    take(slots)
    with pytest.raises(RuntimeError, match="without a free slot"):
        take(slots)


@given(st.lists(st.integers(0, 9), max_size=60))
def test_slots_stay_whole_and_contiguous_whatever_happens(actions: list[int]):
    slots = Slots(6)
    alive: list[Sequence] = []
    for action in actions:
        if action < 5 and slots.free:
            alive.append(take(slots))
        elif alive:
            slots.release(alive.pop(action % len(alive)), 0.0)
        if action % 3 == 0:
            slots.compact(0.0)
            assert [s.slot for s in slots.occupied()] == list(range(len(alive)))
        slots.check_integrity()
        assert slots.free == 6 - len(alive)
