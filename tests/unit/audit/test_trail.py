"""The event first, then the change; what the trail says when either fails."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from opentelemetry import trace

from shared.audit.caller import caller, working_for
from shared.audit.digest import digest
from shared.audit.reading import EventReader
from shared.audit.trail import Change, Trail
from shared.bus.memory.bus import MemoryBroker, MemoryBus
from shared.contracts.events import CHAINS, EVENTS, MAX_DETAIL
from shared.errors import Conflict, Disconnected, NotRecorded, StorageFull
from tests.support.harness.events import events_of

CHANGE = Change("LLMOS_DEPLOYMENTS/a", b"before", b"after")


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus(MemoryBroker())
    yield bus
    await bus.drain()


def trail_of(bus: MemoryBus, actor: str = "scheduler-1") -> Trail:
    return Trail(bus, CHAINS["scheduler"], actor=actor, node="box")


async def test_an_event_says_who_did_what_for_whom_and_in_which_trace(bus: MemoryBus) -> None:
    context = trace.SpanContext(0xABC, 0x1, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)), working_for("key-1"):
        await trail_of(bus).record("deployment.changed", "a", CHANGE, replicas="2")
    (event,) = await events_of(bus)
    assert (event.kind, event.name, event.service, event.actor, event.node) == (
        "deployment.changed",
        "a",
        "scheduler",
        "scheduler-1",
        "box",
    )
    assert (event.by, event.trace_id, event.detail) == ("key-1", f"{0xABC:032x}", {"replicas": "2"})
    assert (event.record, event.before, event.after) == ("LLMOS_DEPLOYMENTS/a", digest(b"before"), digest(b"after"))


async def test_a_change_is_made_after_its_event_is_stored(bus: MemoryBus) -> None:
    async with trail_of(bus).change("deployment.changed", "a", CHANGE):
        assert [event.kind for event in await events_of(bus)] == ["deployment.changed"]
    assert [event.kind for event in await events_of(bus)] == ["deployment.changed"]


async def test_a_change_whose_event_can_not_be_stored_is_not_made() -> None:
    broker = MemoryBroker()
    bus, made = MemoryBus(broker), False
    trail = trail_of(bus)
    broker.stop()
    with pytest.raises(NotRecorded, match=r"deployment\.changed of a was not made: its event can't be stored"):
        async with trail.change("deployment.changed", "a", CHANGE):
            made = True
    assert not made
    broker.start()
    await trail.record("deployment.changed", "a", CHANGE)
    assert [event.number for event in await events_of(bus)] == [1]


async def test_no_room_for_changes_is_said_as_such(bus: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = trail_of(bus)

    async def full(*_: object, **__: object) -> int:
        raise StorageFull("nothing was changed: the disk is nearly full")

    monkeypatch.setattr(trail._stream, "append", full)
    with pytest.raises(StorageFull):
        await trail.record("deployment.changed", "a", CHANGE)
    await trail.note("node.lost", "n")  # is logged, and raises nothing


@pytest.mark.parametrize(
    ("error", "kind"), [(Conflict("faster"), "change.not_made"), (Disconnected("away"), "change.uncertain")]
)
async def test_a_change_that_fails_is_an_event_too(bus: MemoryBus, error: Exception, kind: str) -> None:
    with pytest.raises(type(error)):
        async with trail_of(bus).change("deployment.changed", "a", CHANGE):
            raise error
    first, second = await events_of(bus)
    assert (second.kind, second.name, second.record) == (kind, "a", "")
    assert second.detail == {"of_event": str(first.number), "kind": "deployment.changed", "reason": str(error)}


async def test_each_event_carries_the_digest_of_the_one_before_as_it_is_stored(bus: MemoryBus) -> None:
    trail = trail_of(bus)
    for number in range(3):
        await trail.record("node.joined", f"n{number}")
    chain = CHAINS["scheduler"]
    stream = bus.stream(EVENTS.name, [EVENTS.subjects], max_bytes=EVENTS.max_bytes, max_age=EVENTS.max_age)
    stored = [message.data for _, message in await stream.after(0, chain.subject, limit=9)]
    events = await events_of(bus)
    assert [event.number for event in events] == [1, 2, 3]
    assert [event.previous for event in events] == ["", digest(stored[0]), digest(stored[1])]
    assert [event.previous_at for event in events] == [None, events[0].at, events[1].at]


async def test_a_restarted_process_and_its_replicas_go_on_with_one_chain(bus: MemoryBus) -> None:
    first, second = trail_of(bus), trail_of(bus, "scheduler-2")
    await asyncio.gather(
        *(trail.record("node.joined", f"n{number}") for number in range(10) for trail in (first, second))
    )
    await trail_of(bus, "scheduler-3").record("node.lost", "n1")
    events = await events_of(bus)
    assert [event.number for event in events] == list(range(1, 22))
    assert {event.actor for event in events} == {"scheduler-1", "scheduler-2", "scheduler-3"}


async def test_an_acknowledgement_that_was_lost_makes_no_second_event(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = trail_of(bus)
    append = trail._stream.append
    calls = 0

    async def loses_the_first(subject: str, data: bytes, *, after: int, removes: bool = False) -> int:
        nonlocal calls
        calls += 1
        position = await append(subject, data, after=after, removes=removes)
        if calls == 1:  # what JetStream answers a client that sends it again
            raise Conflict("has newer messages")
        return position

    monkeypatch.setattr(trail._stream, "append", loses_the_first)
    await trail.record("node.joined", "n1")
    await trail.record("node.joined", "n2")
    assert [(event.number, event.name) for event in await events_of(bus)] == [(1, "n1"), (2, "n2")]


async def test_long_details_are_cut_and_say_so(bus: MemoryBus) -> None:
    await trail_of(bus).record("job.failed", "j", reason="x" * 5000)
    (event,) = await events_of(bus)
    assert event.detail["reason"] == "x" * MAX_DETAIL + "… (5000 characters)"


async def test_for_whom_a_task_works_ends_with_the_block() -> None:
    assert caller() == ""
    with working_for("key-1"):
        assert caller() == "key-1"
        with working_for("key-2"):
            assert caller() == "key-2"
    assert caller() == ""


async def test_a_crash_between_event_and_change_leaves_the_event_and_the_next_one_explains_it(bus: MemoryBus) -> None:
    class KilledHere(BaseException):
        pass

    with pytest.raises(KilledHere):
        async with trail_of(bus).change("deployment.changed", "a", Change("B/a", b"1", b"2")):
            raise KilledHere
    async with trail_of(bus).change("deployment.changed", "a", Change("B/a", b"1", b"3")):
        pass
    first, second = await events_of(bus)
    assert (second.before, second.number) == (first.before, 2), "the first change was not made"
    assert (await EventReader(bus).verify({}, datetime.now(UTC))).sound
