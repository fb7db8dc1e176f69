"""Several tellings of a bucket become one story."""

from hypothesis import given
from hypothesis import strategies as st

from shared.bus.merge import Telling
from shared.bus.port import KvEvent, KvOperation

SYNCED = KvEvent(KvOperation.SYNCED)


def put(key: str) -> KvEvent:
    return KvEvent(KvOperation.PUT, key)


def delete(key: str) -> KvEvent:
    return KvEvent(KvOperation.DELETE, key)


def read_all(telling: Telling) -> list[KvEvent]:
    events = []
    while (event := telling.read()) is not None:
        events.append(event)
    return events


def test_what_is_not_told_again_is_told_as_deleted_before_synced() -> None:
    telling = Telling()
    for event in (put("a"), put("b"), SYNCED, put("c")):
        telling.add(0, event)
    assert read_all(telling) == [put("a"), put("b"), SYNCED, put("c")]
    telling.end_run()
    for event in (put("b"), SYNCED):
        telling.add(1, event)
    assert read_all(telling) == [put("b"), delete("a"), delete("c"), SYNCED]
    assert telling.complete


def test_events_of_a_run_that_is_over_are_left_out() -> None:
    telling = Telling()
    telling.add(0, put("a"))
    telling.add(0, SYNCED)
    telling.end_run()
    telling.add(0, put("late"))
    assert read_all(telling) == []
    assert not telling.complete


def test_it_is_not_complete_while_something_is_unread() -> None:
    telling = Telling()
    telling.add(0, SYNCED)
    assert not telling.complete
    read_all(telling)
    assert telling.complete
    telling.add(0, put("a"))
    assert not telling.complete


contents = st.sets(st.sampled_from("abcde"))


@given(st.lists(st.tuples(contents, st.booleans(), st.booleans()), max_size=8), contents)
def test_the_reader_ends_with_what_is_there(tellings: list[tuple[set[str], bool, bool]], last: set[str]) -> None:
    telling, mirror = Telling(), set()

    def read() -> None:
        for event in read_all(telling):
            if event.operation is KvOperation.PUT:
                mirror.add(event.key)
            elif event.operation is KvOperation.DELETE:
                mirror.discard(event.key)

    for number, (content, finished, seen) in enumerate([*tellings, (last, True, True)]):
        if number:
            telling.end_run()
        for key in sorted(content):
            telling.add(number, put(key))
        if finished:
            telling.add(number, SYNCED)
        if seen:
            read()
    assert mirror == last
