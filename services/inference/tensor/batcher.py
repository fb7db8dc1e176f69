"""Which requests are computed together. Pure: no clock, no I/O.

A batch begins with the request whose turn it is. Others of the same signature follow by turn until the batch is full.
A request is never divided between batches, so it ends with its batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.inference.batching.batch import Finished
from services.inference.tensor.limits import TensorLimits
from services.inference.tensor.request import Computed, TensorRequest
from services.inference.turns.fair_queue import TenantFairQueue
from shared.errors import Conflict, LlmosError, Overloaded
from shared.tensors import Array

Outcome = Mapping[str, Array] | LlmosError
"""Of one request in a batch: its outputs, or what is wrong with it."""


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """Requests that are computed together."""

    requests: tuple[TensorRequest, ...]

    @property
    def size(self) -> int:
        """Rows."""
        return self.work

    @property
    def work(self) -> int:
        """Rows."""
        return sum(request.work for request in self.requests)

    @property
    def padded(self) -> int:
        """Rows: nothing is padded."""
        return self.work


@dataclass(slots=True)
class _Waiting:
    request: TensorRequest
    admitted: float
    order: int


class TensorBatcher:
    """All requests of a graph. One mutator at a time."""

    def __init__(self, limits: TensorLimits) -> None:
        self._limits = limits
        self._waiting: dict[str, _Waiting] = {}
        self._running: dict[str, _Waiting] = {}
        """Of the batch that is being computed, without those that were cancelled since."""
        self._queue = TenantFairQueue()
        self._order = 0
        self._bytes = 0
        self._batch: TensorBatch | None = None
        self._began = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def queued(self) -> int:
        """Rows that are in no batch yet."""
        return sum(each.request.work for each in self._waiting.values())

    @property
    def has_work(self) -> bool:
        """Whether a request waits."""
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that are being computed."""
        return len(self._running)

    def admit(self, request: TensorRequest, now: float) -> None:
        """Queue a request.

        Raises:
            Conflict: Its id is in use.
            Overloaded: The queue is at its bound.
        """
        if request.id in self._waiting or request.id in self._running:
            raise Conflict(f"request {request.id} is running already", param="request_id")
        full = len(self._waiting) >= self._limits.max_waiting
        if self._waiting and (full or self._bytes + request.size > self._limits.max_queued_bytes):
            raise Overloaded(f"{len(self._waiting)} requests with {self._bytes} bytes wait already")
        self._order += 1
        self._waiting[request.id] = _Waiting(request, now, self._order)
        self._queue.add(request.id, request.tenant)
        self._bytes += request.size

    def due(self, now: float) -> float:
        """When the next batch is to be computed: once it is full, or its oldest request has waited long enough."""
        head = self._by_turn()[0]
        if head.request.signature is None or not self._limits.max_delay_s:
            return now
        together = [each for each in self._waiting.values() if each.request.signature == head.request.signature]
        if sum(each.request.work for each in together) >= self._limits.max_batch:
            return now
        return min(each.admitted for each in self._waiting.values()) + self._limits.max_delay_s

    def plan(self, now: float) -> TensorBatch | None:
        """The next batch, or None if nothing waits. `complete` follows before the next `plan`."""
        assert self._batch is None, "a batch is being computed"
        chosen: list[TensorRequest] = []
        rows = 0
        for each in self._by_turn():
            request = each.request
            if chosen and (request.signature is None or request.signature != chosen[0].signature):
                continue
            if chosen and rows + request.work > self._limits.max_batch:
                break
            chosen.append(request)
            rows += request.work
            if request.signature is None:
                break
        if not chosen:
            return None
        for request in chosen:
            self._queue.charge(request.id, request.work)
            self._running[request.id] = self._take(request.id)
        self._batch, self._began = TensorBatch(tuple(chosen)), now
        return self._batch

    def complete(
        self, batch: TensorBatch, outcome: Sequence[Outcome] | LlmosError, now: float
    ) -> list[Finished[Computed]]:
        """The results of a batch's requests, but for those that were cancelled."""
        assert batch is self._batch, "another batch is being computed"
        self._batch = None
        found = [outcome] * len(batch.requests) if isinstance(outcome, LlmosError) else outcome
        finished: list[Finished[Computed]] = []
        for request, result in zip(batch.requests, found, strict=True):
            mine = self._running.get(request.id)
            if mine is None or mine.request is not request:  # cancelled; another may have its id
                continue
            del self._running[request.id]
            if isinstance(result, LlmosError):
                finished.append(Finished(request.id, result))
            else:
                times = (self._began - mine.admitted, now - self._began)
                finished.append(Finished(request.id, Computed(result, *times)))
        return finished

    def cancel(self, request_id: str) -> bool:
        """Remove a request and ignore its result. False if the id is unknown."""
        if request_id in self._waiting:
            self._take(request_id)
            return True
        return self._running.pop(request_id, None) is not None

    def fail_all(self, error: LlmosError) -> list[Finished[Computed]]:
        """Finish all requests with an error."""
        finished: list[Finished[Computed]] = [Finished(name, error) for name in (*self._running, *self._waiting)]
        for each in finished:
            self.cancel(each.request_id)
        self._batch = None
        return finished

    def check_integrity(self) -> None:
        """Raise AssertionError unless all counts agree."""
        assert self._bytes == sum(each.request.size for each in self._waiting.values()), "bytes are miscounted"
        assert len(self._queue) == len(self._waiting), "the queue is wrong"
        assert not self._waiting.keys() & self._running.keys(), "a request waits and runs"
        batch = () if self._batch is None else self._batch.requests
        assert {each.request.id for each in self._running.values()} <= {each.id for each in batch}, "a lost request"

    def _by_turn(self) -> list[_Waiting]:
        return sorted(self._waiting.values(), key=lambda each: (self._queue.position(each.request.id), each.order))

    def _take(self, request_id: str) -> _Waiting:
        """The only place where a request stops waiting."""
        each = self._waiting.pop(request_id)
        self._queue.remove(request_id)
        self._bytes -= each.request.size
        return each
