"""The interface of a batcher to the runner: which requests, or parts of them, are computed together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from shared.errors import LlmosError

Request_contra = TypeVar("Request_contra", contravariant=True)
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
"""What is computed of one entry of a batch: a text's vector, a request's tensors."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """The single result of a request, or its error."""

    request_id: str
    result: Result | LlmosError


class Batch(Protocol):
    """Entries that are computed together."""

    @property
    def size(self) -> int:
        """Sequences in it: texts, or rows."""
        ...

    @property
    def work(self) -> int:
        """Units of work in it: tokens, or rows."""
        ...

    @property
    def padded(self) -> int:
        """The same with padding: what its duration goes by."""
        ...


AnyBatch = TypeVar("AnyBatch", bound=Batch)


class Batcher(Protocol[Request_contra, AnyBatch, Item_contra, Result]):
    """All requests of a graph. Pure; one mutator at a time."""

    @property
    def queued(self) -> int:
        """Units of work that are in no batch yet."""
        ...

    @property
    def has_work(self) -> bool:
        """Whether something waits."""
        ...

    @property
    def waiting(self) -> int:
        """Requests of which nothing has been or is being computed."""
        ...

    @property
    def running(self) -> int:
        """Requests that have begun."""
        ...

    def __len__(self) -> int:
        """Requests."""
        ...

    def admit(self, request: Request_contra, now: float) -> None:
        """Queue a request; raises `Conflict`, `InvalidInput` or `Overloaded`."""
        ...

    def due(self, now: float) -> float:
        """When what waits is to be computed, in the clock's seconds; with work only."""
        ...

    def plan(self, now: float) -> AnyBatch | None:
        """The next batch, or None if nothing waits. `complete` follows before the next `plan`."""
        ...

    def complete(
        self, batch: AnyBatch, outcome: Sequence[Item_contra] | LlmosError, now: float
    ) -> list[Finished[Result]]:
        """Store what was computed, or fail the batch's requests; returns the requests that are finished."""
        ...

    def cancel(self, request_id: str) -> bool:
        """Remove a request. False if the id is unknown."""
        ...

    def fail_all(self, error: LlmosError) -> list[Finished[Result]]:
        """Finish all requests with an error."""
        ...
