"""What the check of a chain finds, and what it does not take for a fault."""

from datetime import UTC, datetime, timedelta

from shared.audit.digest import digest
from shared.audit.verify import MAX_FINDINGS, ChainCheck
from shared.contracts.events import CHAINS, EVENTS, ChainReport, Event

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
CHAIN = CHAINS["scheduler"]


def chain_of(count: int, **changes: object) -> list[bytes]:
    """Events as they are stored."""
    stored: list[bytes] = []
    before: Event | None = None
    for number in range(1, count + 1):
        event = Event(
            kind="deployment.changed",
            name="a",
            at=NOW - timedelta(minutes=count - number),
            service="scheduler",
            actor="scheduler-1",
            record="LLMOS_DEPLOYMENTS/a",
            before=f"state {number - 1}",
            after=f"state {number}",
            number=number,
            previous=digest(stored[-1]) if stored else "",
            previous_at=before.at if before else None,
        ).model_copy(update=changes)
        stored.append(event.encode())
        before = event
    return stored


def check(
    stored: list[bytes],
    *,
    known: tuple[int, str] | None = None,
    now: datetime = NOW,
    size: int = 0,
    resets: tuple[datetime, ...] = (),
) -> ChainReport:
    checking = ChainCheck(CHAIN, known)
    for data in stored:
        checking.add(data)
    checking.end(now, stored=size)
    return checking.report(resets)


def test_a_whole_chain_has_no_findings() -> None:
    stored = chain_of(5)
    report = check(stored)
    assert (report.findings, report.events, report.first, report.last) == ((), 5, 1, 5)
    assert report.digest == digest(stored[-1])
    assert check([]).findings == ()


def test_a_missing_event_is_named() -> None:
    stored = chain_of(6)
    assert check(stored[:2] + stored[3:]).findings == (
        "event 3 is missing",
        "LLMOS_DEPLOYMENTS/a was changed without an event before event 4",
    )
    assert check(stored[:1] + stored[4:]).findings == (
        "the events from 2 to 4 are missing",
        "LLMOS_DEPLOYMENTS/a was changed without an event before event 5",
    )


def test_an_altered_event_is_named() -> None:
    stored = chain_of(4)
    stored[1] = Event.decode(stored[1]).model_copy(update={"by": "somebody else"}).encode()
    assert check(stored).findings == ("event 2 was altered after event 3 was written",)


def test_bytes_that_are_no_event_are_named() -> None:
    stored = chain_of(3)
    stored[1] = b"{}"
    assert check(stored).findings[0] == "what follows event 1 can't be read: it was altered"


def test_an_event_that_was_put_there_later_is_named() -> None:
    stored = chain_of(3)
    assert check([*stored, stored[1]]).findings[0] == "event 2 follows event 3: it was put there later"


def test_an_event_of_another_service_is_named() -> None:
    stored = chain_of(1, service="registry")
    assert check(stored).findings == ("event 1 is one of 'registry': it does not belong here",)


def test_what_the_limits_removed_is_no_gap() -> None:
    stored = chain_of(5)
    rest = stored[2:]
    by_age = NOW + timedelta(seconds=EVENTS.max_age) - timedelta(minutes=2)
    assert check(rest, now=by_age).findings == ()
    assert check(rest, size=EVENTS.max_bytes - 1000).findings == ()


def test_a_beginning_that_no_limit_removed_is_a_gap() -> None:
    stored = chain_of(5)
    assert check(stored[2:]).findings == ("the events before 3 are missing, and no limit of the stream removed them",)


def test_an_earlier_check_shows_a_chain_that_was_written_anew_or_cut() -> None:
    stored = chain_of(5)
    known = (4, digest(stored[3]))
    assert check(stored, known=known).findings == ()
    anew = chain_of(5, actor="scheduler-2")
    assert check(anew, known=known).findings == ("event 4 is another one than at the last check: it was altered",)
    assert check(stored[:3], known=known).findings == ("the events from 4 to 4 are missing at the end",)


def test_a_record_that_was_changed_without_an_event_is_named() -> None:
    stored = chain_of(3)
    foreign = Event.decode(stored[2]).model_copy(update={"before": "a state that no event has"})
    assert check([*stored[:2], foreign.encode()]).findings == (
        "LLMOS_DEPLOYMENTS/a was changed without an event before event 3",
    )


def test_a_restore_between_two_events_explains_another_state() -> None:
    stored = chain_of(3)
    foreign = Event.decode(stored[2]).model_copy(update={"before": "the state of a backup"})
    between = NOW - timedelta(seconds=30)
    assert check([*stored[:2], foreign.encode()], resets=(between,)).findings == ()


def test_an_event_whose_change_was_not_made_is_no_finding() -> None:
    stored = chain_of(2)
    again = Event.decode(stored[1])
    third = again.model_copy(update={"number": 3, "previous": digest(stored[1]), "after": "another state"})
    assert check([*stored, third.encode()]).findings == ()


def test_events_from_before_the_chains_are_linked_and_not_judged() -> None:
    old = Event(kind="key.created", name="k", actor="a", at=NOW).encode()
    first = Event.decode(chain_of(1)[0]).model_copy(update={"previous": digest(old)})
    report = check([old, first.encode()])
    assert (report.findings, report.events, report.first) == ((), 2, 1)
    other = Event(kind="key.created", name="another", actor="a", at=NOW).encode()
    assert check([other, first.encode()]).findings == ("what was before event 1 was altered",)


def test_many_findings_are_counted() -> None:
    report = check([chain_of(1)[0]] * (MAX_FINDINGS + 30))
    assert len(report.findings) == MAX_FINDINGS + 1
    assert report.findings[-1].endswith("more")
