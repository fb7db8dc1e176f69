"""The runs of a watch become one sequence of events."""

from hypothesis import given
from hypothesis import strategies as st

from shared.bus.merge import WatchMerge
from shared.bus.port import KvEvent, KvOperation

SYNCED = KvEvent(KvOperation.SYNCED)


def put(key: str) -> KvEvent:
    return KvEvent(KvOperation.PUT, key)


def delete(key: str) -> KvEvent:
    return KvEvent(KvOperation.DELETE, key)


def read_all(merge: WatchMerge) -> list[KvEvent]:
    events = []
    while (event := merge.read()) is not None:
        events.append(event)
    return events


def test_a_key_that_the_next_run_lacks_is_deleted_before_synced() -> None:
    merge = WatchMerge()
    for event in (put("a"), put("b"), SYNCED, put("c")):
        merge.add(0, event)
    assert read_all(merge) == [put("a"), put("b"), SYNCED, put("c")]
    merge.end_run()
    for event in (put("b"), SYNCED):
        merge.add(1, event)
    assert read_all(merge) == [put("b"), delete("a"), delete("c"), SYNCED]
    assert merge.complete


def test_events_of_a_run_that_is_over_are_left_out() -> None:
    merge = WatchMerge()
    merge.add(0, put("a"))
    merge.add(0, SYNCED)
    merge.end_run()
    merge.add(0, put("late"))
    assert read_all(merge) == []
    assert not merge.complete


def test_it_is_not_complete_while_something_is_unread() -> None:
    merge = WatchMerge()
    merge.add(0, SYNCED)
    assert not merge.complete
    read_all(merge)
    assert merge.complete
    merge.add(0, put("a"))
    assert not merge.complete


contents = st.sets(st.sampled_from("abcde"))


@given(st.lists(st.tuples(contents, st.booleans(), st.booleans()), max_size=8), contents)
def test_the_reader_ends_with_what_is_there(runs: list[tuple[set[str], bool, bool]], last: set[str]) -> None:
    merge, mirror = WatchMerge(), set()

    def read() -> None:
        for event in read_all(merge):
            if event.operation is KvOperation.PUT:
                mirror.add(event.key)
            elif event.operation is KvOperation.DELETE:
                mirror.discard(event.key)

    for number, (content, finished, seen) in enumerate([*runs, (last, True, True)]):
        if number:
            merge.end_run()
        for key in sorted(content):
            merge.add(number, put(key))
        if finished:
            merge.add(number, SYNCED)
        if seen:
            read()
    assert mirror == last
