"""Which rows are computed together. Pure: no clock, no I/O.

A batch begins with the row whose turn it is and takes rows of like length (of the same bucket) with it, whosever they
are, by turn, until it is full: padding stays below a third, and nobody waits for a batch to fill. Rows of a request
may be computed in any order, and one large request leaves room for small ones between its batches.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.request import Encoded, EncodeRequest, TokenRow, Vector
from services.inference.encoder.shares import Shares
from shared.errors import Conflict, InvalidInput, LlmosError, Overloaded


@dataclass(frozen=True, slots=True)
class Place:
    """Row `index` of request `request_id`."""

    request_id: str
    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together."""

    places: tuple[Place, ...]
    rows: tuple[TokenRow, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A request's one end: its vectors, or why there are none."""

    request_id: str
    result: Encoded | LlmosError


@dataclass(slots=True)
class _Live:
    """A request between its admission and its end."""

    request: EncodeRequest
    admitted: float
    waiting: dict[int, list[int]]
    """Bucket to the indices of rows that are in no batch yet, the longest last."""
    vectors: list[Vector | None]
    started: float | None = None
    running: int = 0
    """Rows in the batch that is being computed."""
    waits: int = field(default=0)
    """Rows in no batch yet."""

    @property
    def complete(self) -> bool:
        return not self.waits and not self.running


def bucket(length: int) -> int:
    """The smallest of 8, 12, 16, 24, 32, 48, … that is at least `length`."""
    power = 8
    while power < length:
        if power + power // 2 >= length:
            return power + power // 2
        power *= 2
    return power


class EncoderBatcher:
    """All requests of an encoder. One mutator at a time.

    Args:
        limits: Bounds of a batch and of the queue.
        max_len: Tokens that a row may have.
    """

    def __init__(self, limits: EncoderLimits, *, max_len: int) -> None:
        self._limits = limits
        self._max_len = max_len
        self._live: dict[str, _Live] = {}
        self._shares = Shares()
        self._order = 0
        self._arrival: dict[str, int] = {}
        self._batch: Batch | None = None
        self._owners: tuple[_Live, ...] = ()
        """Of the batch's rows: a request that was cancelled may be followed by another of its id."""
        self.queued_tokens = 0
        """Of rows that are in no batch yet."""

    def __len__(self) -> int:
        return len(self._live)

    @property
    def has_work(self) -> bool:
        """Whether a row waits."""
        return len(self._shares) > 0

    @property
    def waiting(self) -> int:
        """Requests none of whose rows has been computed or is being computed."""
        return sum(live.started is None for live in self._live.values())

    @property
    def running(self) -> int:
        """Requests that have begun."""
        return len(self._live) - self.waiting

    def admit(self, request: EncodeRequest, now: float) -> None:
        """Queue a request.

        Raises:
            Conflict: Its id is in use.
            InvalidInput: It has no rows, or a row that is empty or too long.
            Overloaded: The queue is at its bound.
        """
        if request.id in self._live:
            raise Conflict(f"request {request.id} is running already", param="request_id")
        if not request.rows or not all(0 < len(row) <= self._max_len for row in request.rows):
            raise InvalidInput(f"a request has rows of 1 to {self._max_len} tokens each", param="input")
        tokens = request.tokens
        if self._live and (
            self.waiting >= self._limits.max_waiting or self.queued_tokens + tokens > self._limits.max_queued_tokens
        ):
            raise Overloaded(
                f"{self.waiting} requests with {self.queued_tokens} tokens wait already; try again later"
            )
        waiting: dict[int, list[int]] = defaultdict(list)
        for index in sorted(range(len(request.rows)), key=lambda index: len(request.rows[index])):
            waiting[bucket(len(request.rows[index]))].append(index)
        count = len(request.rows)
        self._live[request.id] = _Live(request, now, dict(waiting), [None] * count, waits=count)
        self._shares.enter(request.id, request.tenant)
        self._order += 1
        self._arrival[request.id] = self._order
        self.queued_tokens += tokens

    def plan(self, now: float) -> Batch | None:
        """The next batch, or None if no row waits. `complete` follows before the next `plan`."""
        assert self._batch is None, "a batch is being computed"
        if not self.has_work:
            return None
        places: list[Place] = []
        head = min(self._turn(name) for name in self._live if name in self._shares)[-1]
        widest = max(self._live[head].waiting)  # the head is the first of all that have rows in this bucket, too
        for size in sorted({size for live in self._live.values() for size in live.waiting if size <= widest})[::-1]:
            full = self._limits.batch_tokens if size == widest else self._limits.fill_tokens
            self._fill(places, size, full, now)
        self._owners = tuple(self._live[place.request_id] for place in places)
        self._batch = Batch(tuple(places), tuple(self._row(place) for place in places))
        return self._batch

    def complete(self, batch: Batch, outcome: Sequence[Vector] | LlmosError, now: float) -> list[Ended]:
        """Take in what the graph made of a batch, or why it failed; answers the requests that end with it."""
        assert batch is self._batch, "another batch is being computed"
        owners, self._batch, self._owners = self._owners, None, ()
        ended: list[Ended] = []
        vectors = [None] * len(owners) if isinstance(outcome, LlmosError) else outcome
        for place, live, vector in zip(batch.places, owners, vectors, strict=True):
            if self._live.get(place.request_id) is not live:  # cancelled meanwhile, or failed with an earlier row
                continue
            live.vectors[place.index] = vector
            live.running -= 1
            if isinstance(outcome, LlmosError):
                ended.append(Ended(place.request_id, outcome))
                self._forget(place.request_id)
            elif live.complete:
                ended.append(Ended(place.request_id, _encoded(live, now)))
                self._forget(place.request_id)
        return ended

    def cancel(self, request_id: str) -> bool:
        """Forget a request; rows of it in the batch that is being computed lead to nothing. False if unknown."""
        if request_id not in self._live:
            return False
        self._forget(request_id)
        return True

    def fail_all(self, error: LlmosError) -> list[Ended]:
        """End all requests."""
        ended = [Ended(request_id, error) for request_id in self._live]
        for end in ended:
            self._forget(end.request_id)
        self._batch, self._owners = None, ()
        return ended

    def check_integrity(self) -> None:
        """Raise AssertionError unless the books agree."""
        waiting = {id_: sum(map(len, live.waiting.values())) for id_, live in self._live.items()}
        assert all(waiting[id_] == live.waits for id_, live in self._live.items()), "rows are miscounted"
        assert all((id_ in self._shares) == (count > 0) for id_, count in waiting.items()), "a share is nobody's"
        assert len(self._shares) == sum(count > 0 for count in waiting.values()), "a request that left has a share"
        tokens = sum(
            len(live.request.rows[index])
            for live in self._live.values()
            for rows in live.waiting.values()
            for index in rows
        )
        assert tokens == self.queued_tokens, "queued tokens are miscounted"
        running = [live for live in self._owners if self._live.get(live.request.id) is live]
        assert len(running) == sum(live.running for live in self._live.values()), "running rows are miscounted"
        assert all(live.waits or live.running for live in self._live.values()), "a request that ended is still here"

    def _turn(self, request_id: str) -> tuple[tuple[float, float], int, str]:
        return self._shares.place(request_id), self._arrival[request_id], request_id

    def _fill(self, places: list[Place], size: int, full: int, now: float) -> None:
        """Add rows of bucket `size`, by turn, while the batch stays within `full` tokens."""
        longest = max((len(self._row(place)) for place in places), default=0)
        turns = [self._turn(name) for name, live in self._live.items() if size in live.waiting]
        heapq.heapify(turns)
        while turns:
            turn = heapq.heappop(turns)
            name = turn[-1]
            if self._turn(name) > turn:  # its tenant was charged meanwhile: its turn comes later
                heapq.heappush(turns, self._turn(name))
                continue
            live = self._live[name]
            length = len(live.request.rows[live.waiting[size][-1]])
            if places and (len(places) + 1) * max(longest, length) > full:
                return
            longest = max(longest, length)
            places.append(Place(name, self._take(live, size, now)))
            if size in live.waiting:
                heapq.heappush(turns, self._turn(name))

    def _take(self, live: _Live, size: int, now: float) -> int:
        """Move the longest row of a bucket into the batch; answers its index."""
        rows = live.waiting[size]
        index = rows.pop()
        if not rows:
            del live.waiting[size]
        length = len(live.request.rows[index])
        live.waits -= 1
        live.running += 1
        live.started = now if live.started is None else live.started
        self.queued_tokens -= length
        self._shares.charge(live.request.id, length)
        if not live.waits:
            self._shares.leave(live.request.id)
        return index

    def _row(self, place: Place) -> TokenRow:
        return self._live[place.request_id].request.rows[place.index]

    def _forget(self, request_id: str) -> None:
        """The only way out."""
        live = self._live.pop(request_id)
        del self._arrival[request_id]
        if live.waits:
            self._shares.leave(request_id)
        for rows in live.waiting.values():
            self.queued_tokens -= sum(len(live.request.rows[index]) for index in rows)


def _encoded(live: _Live, now: float) -> Encoded:
    assert live.started is not None
    vectors = tuple(vector for vector in live.vectors if vector is not None)
    assert len(vectors) == len(live.request.rows), "a row has no vector"
    return Encoded(vectors, queue_s=live.started - live.admitted, compute_s=now - live.started)
