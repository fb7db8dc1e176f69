"""What the connections of one process share: subscriptions, buckets and streams, all in memory."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.bus.memory.bucket import Bucket
from shared.bus.memory.streams import Stream
from shared.bus.names import matches
from shared.bus.port import Message
from shared.bus.replies import Reply


@dataclass(slots=True, eq=False)
class Delivery:
    """A message on its way, and what takes the reply."""

    message: Message
    reply: Callable[[Reply], None] = lambda _: None


@dataclass(slots=True, eq=False)
class Receiver:
    """A subscription as the broker sees it."""

    subject: str
    queue: str | None
    put: Callable[[Delivery], None]


@dataclass(slots=True, eq=False)
class MemoryBroker:
    """The server behind several `MemoryBus`; `stop` and `start` play an outage.

    Args:
        clock: Seconds that never go back; buckets and streams age by it.
    """

    clock: Callable[[], float] = time.monotonic
    running: bool = True
    receivers: list[Receiver] = field(default_factory=list)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)
    _on_change: list[Callable[[], None]] = field(default_factory=list)

    def stop(self) -> None:
        """The connections of all buses are down from now on; nothing that is stored is lost."""
        self.running = False
        self._notify()

    def start(self) -> None:
        """All buses are connected again."""
        self.running = True
        self._notify()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every `stop` and `start`."""
        self._on_change.append(callback)

    def forget(self, callback: Callable[[], None]) -> None:
        """Undo `on_change`."""
        self._on_change.remove(callback)

    def deliver(self, delivery: Delivery) -> int:
        """To every plain subscription and to one of each queue group; returns to how many."""
        subject = delivery.message.subject
        groups: dict[tuple[str, str], list[Receiver]] = {}
        chosen: list[Receiver] = []
        for receiver in self.receivers:
            if not matches(receiver.subject, subject):
                continue
            if receiver.queue is None:
                chosen.append(receiver)
            else:
                groups.setdefault((receiver.subject, receiver.queue), []).append(receiver)
        chosen += [members[next(self._turn) % len(members)] for members in groups.values()]
        for receiver in chosen:
            receiver.put(delivery)
        for stream in self.streams.values():
            stream.capture(delivery.message)
        return len(chosen)

    def _notify(self) -> None:
        for stream in self.streams.values():
            stream.changed.set()
        for callback in tuple(self._on_change):
            callback()
