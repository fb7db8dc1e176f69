"""Receives the frames of all requests of this gateway and passes each to the attempt that waits for it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.gateway.dispatch.loss import WatchedRequest
from services.gateway.routing.table import Candidate
from shared.bus.port import Bus, Message
from shared.bus.rpc import parse
from shared.contracts.gateway import Frame, FrameBatch, frames_subject
from shared.contracts.replica import Accepted


@dataclass(frozen=True, slots=True)
class Lost:
    """The replica of an attempt is gone, or a frame is missing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    """The request's deadline has passed."""


Event = Frame | Lost | Expired


class Events:
    """The events that one reader has not read yet: `asyncio.Queue` with a quarter of its calls for each token."""

    def __init__(self) -> None:
        self._unread: deque[Event] = deque()
        self._reader: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Add an event."""
        self._unread.append(event)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Event:
        """The next event, when there is one."""
        while not self._unread:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._unread.popleft()


@dataclass(slots=True)
class Attempt:
    """One request at one replica. Its id is the request id that the replica sees."""

    id: str
    replica: Candidate
    watched: WatchedRequest
    events: Events = field(default_factory=Events)
    accepted: bool = False
    prompt: Accepted = field(default_factory=lambda: Accepted(prompt_tokens=0))
    """The prompt as the replica accepted it."""
    finished: bool = False
    """The last frame came."""
    over: bool = False
    """No further frame is expected: the last one came, the replica is lost, or the request was cancelled."""

    def lose(self, reason: str) -> None:
        """Give the replica up: one `Lost` event."""
        if not self.over:
            self.over = True
            self.events.put(Lost(reason))

    def receive(self, frame: Frame, now: float) -> None:
        """Receive a frame; one that is out of sequence loses the attempt."""
        if self.over:
            return
        if reason := self.watched.frame(frame.seq, now):
            self.lose(reason)
            return
        self.over = self.finished = frame.finish_reason is not None or frame.error is not None
        self.events.put(frame)


class FrameReceiver:
    """The one subscription for frames, and the attempts they belong to."""

    def __init__(self, bus: Bus, gateway_id: str, clock: Callable[[], float]) -> None:
        self._bus = bus
        self._clock = clock
        self._gateway_id = gateway_id
        self._attempts: dict[str, Attempt] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FrameReceiver"]:
        """Receive frames while the block runs."""
        subscription = await self._bus.subscribe(frames_subject(self._gateway_id), self._on_batch)
        try:
            yield self
        finally:
            await subscription.unsubscribe()

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts that frames are expected for."""
        return list(self._attempts.values())

    def expect(self, attempt: Attempt) -> None:
        """Deliver frames to `attempt`. Called before the request is sent: frames may overtake the reply."""
        self._attempts[attempt.id] = attempt

    def forget(self, attempt: Attempt) -> None:
        """Deliver nothing more to `attempt`."""
        self._attempts.pop(attempt.id, None)

    def _on_batch(self, message: Message) -> None:
        now = self._clock()
        for frame in parse(FrameBatch, message.data).frames:
            # A request that was cancelled or resumed elsewhere is no longer expected: its late frames end here.
            if attempt := self._attempts.get(frame.request_id):
                attempt.receive(frame, now)
