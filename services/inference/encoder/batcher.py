"""Which rows are computed together. Pure: no clock, no I/O.

A batch begins with the row whose turn it is. Rows of similar length (of the same bucket) follow by turn, from all
requests, until the batch is full. So padding stays below a third, and no row waits for a batch to fill. Rows of a
request may be computed in any order, and small requests are computed between the batches of a large one.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.inference.batching.batch import Finished
from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.request import Encoded, EncodeRequest, TokenRow, Vector
from services.inference.turns.fair_queue import TenantFairQueue
from shared.errors import Conflict, InvalidInput, LlmosError, Overloaded


@dataclass(frozen=True, slots=True)
class RowRef:
    """Row `index` of request `request_id`."""

    request_id: str
    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together."""

    refs: tuple[RowRef, ...]
    rows: tuple[TokenRow, ...]

    @property
    def size(self) -> int:
        """Texts."""
        return len(self.rows)

    @property
    def work(self) -> int:
        """Tokens."""
        return sum(map(len, self.rows))

    @property
    def padded(self) -> int:
        """Tokens with padding."""
        return len(self.rows) * max(map(len, self.rows))


@dataclass(slots=True)
class _ActiveRequest:
    """A request between its admission and its result."""

    request: EncodeRequest
    admitted: float
    waiting: dict[int, list[int]]
    """Bucket to the indices of rows that are in no batch yet, the longest last."""
    vectors: list[Vector | None]
    started: float | None = None
    running: int = 0
    """Rows in the batch that is being computed."""
    unbatched: int = field(default=0)
    """Rows in no batch yet."""

    @property
    def complete(self) -> bool:
        return not self.unbatched and not self.running


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
        self._active: dict[str, _ActiveRequest] = {}
        self._queue = TenantFairQueue()
        self._order = 0
        self._arrival: dict[str, int] = {}
        self._batch: Batch | None = None
        self._owners: tuple[_ActiveRequest, ...] = ()
        """The requests of the batch's rows: after a cancellation another request may have the same id."""
        self.queued_tokens = 0
        """Tokens of rows that are in no batch yet."""

    def __len__(self) -> int:
        return len(self._active)

    @property
    def queued(self) -> int:
        """`queued_tokens`."""
        return self.queued_tokens

    @property
    def has_work(self) -> bool:
        """Whether a row waits."""
        return len(self._queue) > 0

    @property
    def waiting(self) -> int:
        """Requests without a row that has been or is being computed."""
        return sum(active.started is None for active in self._active.values())

    @property
    def running(self) -> int:
        """Requests that have begun."""
        return len(self._active) - self.waiting

    def admit(self, request: EncodeRequest, now: float) -> None:
        """Queue a request.

        Raises:
            Conflict: Its id is in use.
            InvalidInput: It has no rows, or a row that is empty or too long.
            Overloaded: The queue is at its bound.
        """
        if request.id in self._active:
            raise Conflict(f"request {request.id} is running already", param="request_id")
        if not request.rows or not all(0 < len(row) <= self._max_len for row in request.rows):
            raise InvalidInput(f"a request has rows of 1 to {self._max_len} tokens each", param="input")
        tokens = request.tokens
        if self._active and (
            self.waiting >= self._limits.max_waiting or self.queued_tokens + tokens > self._limits.max_queued_tokens
        ):
            raise Overloaded(f"{self.waiting} requests with {self.queued_tokens} tokens wait already")
        waiting: dict[int, list[int]] = defaultdict(list)
        for index in sorted(range(len(request.rows)), key=lambda index: len(request.rows[index])):
            waiting[bucket(len(request.rows[index]))].append(index)
        count = len(request.rows)
        self._active[request.id] = _ActiveRequest(request, now, dict(waiting), [None] * count, unbatched=count)
        self._queue.add(request.id, request.tenant)
        self._order += 1
        self._arrival[request.id] = self._order
        self.queued_tokens += tokens

    def due(self, now: float) -> float:
        """When rows that wait are to be computed: once they fill a batch, or the oldest has waited long enough."""
        if not self._limits.max_delay_s or self.queued_tokens >= self._limits.batch_tokens or self._batch_is_full():
            return now
        return (
            min(self._active[name].admitted for name in self._active if name in self._queue)
            + self._limits.max_delay_s
        )

    def _batch_is_full(self) -> bool:
        most = self._limits.max_batch
        return most is not None and sum(active.unbatched for active in self._active.values()) >= most

    def plan(self, now: float) -> Batch | None:
        """The next batch, or None if no row waits. `complete` follows before the next `plan`."""
        assert self._batch is None, "a batch is being computed"
        if not self.has_work:
            return None
        refs: list[RowRef] = []
        head = min(self._position(name) for name in self._active if name in self._queue)[-1]
        widest = max(self._active[head].waiting)  # the head is the first of all that have rows in this bucket, too
        sizes = {size for active in self._active.values() for size in active.waiting if size <= widest}
        for size in sorted(sizes, reverse=True):
            full = self._limits.batch_tokens if size == widest else self._limits.fill_tokens
            self._fill(refs, size, full, now)
        self._owners = tuple(self._active[ref.request_id] for ref in refs)
        self._batch = Batch(tuple(refs), tuple(self._row(ref) for ref in refs))
        return self._batch

    def complete(self, batch: Batch, outcome: Sequence[Vector] | LlmosError, now: float) -> list[Finished[Encoded]]:
        """Store the vectors of a batch, or fail its requests; returns the requests that are finished."""
        assert batch is self._batch, "another batch is being computed"
        owners, self._batch, self._owners = self._owners, None, ()
        finished: list[Finished[Encoded]] = []
        vectors = [None] * len(owners) if isinstance(outcome, LlmosError) else outcome
        for ref, active, vector in zip(batch.refs, owners, vectors, strict=True):
            if self._active.get(ref.request_id) is not active:  # cancelled, or failed with an earlier row
                continue
            active.vectors[ref.index] = vector
            active.running -= 1
            if isinstance(outcome, LlmosError):
                finished.append(Finished(ref.request_id, outcome))
                self._remove(ref.request_id)
            elif active.complete:
                finished.append(Finished(ref.request_id, _result(active, now)))
                self._remove(ref.request_id)
        return finished

    def cancel(self, request_id: str) -> bool:
        """Remove a request and ignore its rows in the running batch. False if the id is unknown."""
        if request_id not in self._active:
            return False
        self._remove(request_id)
        return True

    def fail_all(self, error: LlmosError) -> list[Finished[Encoded]]:
        """Finish all requests with an error."""
        finished: list[Finished[Encoded]] = [Finished(request_id, error) for request_id in self._active]
        for each in finished:
            self._remove(each.request_id)
        self._batch, self._owners = None, ()
        return finished

    def check_integrity(self) -> None:
        """Raise AssertionError unless all counts agree."""
        waiting = {id_: sum(map(len, active.waiting.values())) for id_, active in self._active.items()}
        assert all(waiting[id_] == active.unbatched for id_, active in self._active.items()), "rows are miscounted"
        assert all((id_ in self._queue) == (count > 0) for id_, count in waiting.items()), "the queue is wrong"
        assert len(self._queue) == sum(count > 0 for count in waiting.values()), "a finished request is queued"
        tokens = sum(
            len(active.request.rows[index])
            for active in self._active.values()
            for rows in active.waiting.values()
            for index in rows
        )
        assert tokens == self.queued_tokens, "queued tokens are miscounted"
        running = [active for active in self._owners if self._active.get(active.request.id) is active]
        assert len(running) == sum(active.running for active in self._active.values()), "running rows are miscounted"
        assert not any(active.complete for active in self._active.values()), "a finished request is still here"

    def _position(self, request_id: str) -> tuple[tuple[float, float], int, str]:
        return self._queue.position(request_id), self._arrival[request_id], request_id

    def _fill(self, refs: list[RowRef], size: int, full: int, now: float) -> None:
        """Add rows of bucket `size`, by turn, while the batch stays within `full` tokens."""
        longest = max((len(self._row(ref)) for ref in refs), default=0)
        turns = [self._position(name) for name, active in self._active.items() if size in active.waiting]
        heapq.heapify(turns)
        while turns:
            turn = heapq.heappop(turns)
            name = turn[-1]
            if self._position(name) > turn:  # its tenant was charged since: its turn comes later
                heapq.heappush(turns, self._position(name))
                continue
            active = self._active[name]
            length = len(active.request.rows[active.waiting[size][-1]])
            if refs and ((len(refs) + 1) * max(longest, length) > full or len(refs) == self._limits.max_batch):
                return
            longest = max(longest, length)
            refs.append(RowRef(name, self._take_row(active, size, now)))
            if size in active.waiting:
                heapq.heappush(turns, self._position(name))

    def _take_row(self, active: _ActiveRequest, size: int, now: float) -> int:
        """Move the longest row of a bucket into the batch; returns its index."""
        rows = active.waiting[size]
        index = rows.pop()
        if not rows:
            del active.waiting[size]
        length = len(active.request.rows[index])
        active.unbatched -= 1
        active.running += 1
        active.started = now if active.started is None else active.started
        self.queued_tokens -= length
        self._queue.charge(active.request.id, length)
        if not active.unbatched:
            self._queue.remove(active.request.id)
        return index

    def _row(self, ref: RowRef) -> TokenRow:
        return self._active[ref.request_id].request.rows[ref.index]

    def _remove(self, request_id: str) -> None:
        """The only place where a request is removed."""
        active = self._active.pop(request_id)
        del self._arrival[request_id]
        if active.unbatched:
            self._queue.remove(request_id)
        for rows in active.waiting.values():
            self.queued_tokens -= sum(len(active.request.rows[index]) for index in rows)


def _result(active: _ActiveRequest, now: float) -> Encoded:
    assert active.started is not None
    vectors = tuple(vector for vector in active.vectors if vector is not None)
    assert len(vectors) == len(active.request.rows), "a row has no vector"
    return Encoded(vectors, queue_s=active.started - active.admitted, compute_s=now - active.started)
