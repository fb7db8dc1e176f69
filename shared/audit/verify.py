"""Whether a chain of events is whole. Pure."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import ValidationError

from shared.audit.digest import digest
from shared.contracts.events import Chain, ChainReport, Event

MAX_FINDINGS = 50
"""Of one chain; the last one says how many more there are."""
_STATES = 32
"""States of a record that its next event may begin with: events of changes that were not made stand between."""
_NEARLY_FULL = 0.9
"""From this part of its limit on, a stream may have removed its oldest events for their size."""
_NEARLY_OLD = timedelta(days=1)
"""An event may be removed for its age so much too early: clocks differ."""
_RESETS = ("state.restored", "state.migrated")


class ChainCheck:
    """Takes the events of a chain, the oldest first; then reports.

    Args:
        chain: Which.
        known: Number and digest of an event that an earlier check had.
    """

    def __init__(self, chain: Chain, known: tuple[int, str] | None = None) -> None:
        self._chain = chain
        self._known = known
        self._events = 0
        self._unchained = 0
        self._first: Event | None = None
        self._last: Event | None = None
        self._digest = ""
        self._findings: list[str] = []
        self._states: dict[str, deque[tuple[datetime, str | None]]] = {}
        self._foreign: list[tuple[datetime, datetime, str]] = []
        """Changes without an event: after which time, before which, and the finding."""
        self.resets: list[datetime] = []
        """When all records were replaced."""

    def add(self, data: bytes) -> None:
        """The next event, as it is stored."""
        self._events += 1
        try:
            event = Event.decode(data)
        except ValidationError:
            self._find(f"what follows event {self._number} can't be read: it was altered")
            self._digest = digest(data)
            return
        if not event.number and self._last is None:
            self._unchained += 1
        else:
            self._link(event)
            self._last = event
            self._first = self._first or event
            if event.record:
                self._follow_record(event)
        if event.kind in _RESETS:
            self.resets.append(event.at)
        self._digest = digest(data)
        if self._known is not None and self._known[0] == event.number and self._known[1] != self._digest:
            self._find(f"event {event.number} is another one than at the last check: it was altered")

    def end(self, now: datetime, *, stored: int) -> None:
        """There are no more; `stored` are the bytes of all events in the stream."""
        limits = self._chain.stream
        first = self._first
        if first is not None and first.number > 1 and not self._unchained:
            oldest = now - timedelta(seconds=limits.max_age) + _NEARLY_OLD
            old = first.previous_at is not None and first.previous_at < oldest
            if not old and stored < limits.max_bytes * _NEARLY_FULL:
                self._find(f"the events before {first.number} are missing, and no limit of the stream removed them")
        if self._known is not None and self._number < self._known[0]:
            self._find(f"the events from {self._number + 1} to {self._known[0]} are missing at the end")

    def report(self, resets: Sequence[datetime] = ()) -> ChainReport:
        """What was found; records that were replaced at `resets` are no finding."""
        foreign = [
            finding for begin, end, finding in self._foreign if not any(begin <= reset <= end for reset in resets)
        ]
        findings = [*self._findings, *foreign]
        if len(findings) > MAX_FINDINGS:
            findings = [*findings[:MAX_FINDINGS], f"and {len(findings) - MAX_FINDINGS} more"]
        return ChainReport(
            chain=self._chain.name,
            events=self._events,
            first=self._first.number if self._first else 0,
            last=self._number,
            digest=self._digest,
            findings=tuple(findings),
        )

    @property
    def _number(self) -> int:
        return self._last.number if self._last else 0

    def _link(self, event: Event) -> None:
        last = self._last
        if event.service != self._chain.name:
            self._find(f"event {event.number} is one of {event.service or 'no chain'!r}: it does not belong here")
        if last is None:
            if (self._events > 1 or event.number == 1) and event.previous != self._digest:
                self._find(f"what was before event {event.number} was altered")
            return
        if event.number > last.number + 1:
            gap = (
                f"event {last.number + 1} is"
                if event.number == last.number + 2
                else (f"the events from {last.number + 1} to {event.number - 1} are")
            )
            self._find(f"{gap} missing")
        elif event.number <= last.number:
            self._find(f"event {event.number} follows event {last.number}: it was put there later")
        elif event.previous != self._digest:
            self._find(f"event {last.number} was altered after event {event.number} was written")

    def _follow_record(self, event: Event) -> None:
        states = self._states.setdefault(event.record, deque(maxlen=_STATES))
        if states and event.before not in [state for _, state in states]:
            found = f"{event.record} was changed without an event before event {event.number}"
            self._foreign.append((states[-1][0], event.at, found))
        states.append((event.at, event.before))
        states.append((event.at, event.after))

    def _find(self, finding: str) -> None:
        self._findings.append(finding)


def restored_at(owner: ChainCheck) -> Sequence[datetime]:
    """When all records were replaced by those of a snapshot, or brought to a new format."""
    return owner.resets
