"""Ids, seeds, times and deadlines of new requests."""

import secrets
import time
from collections.abc import Callable

from services.gateway.dispatch.dispatcher import Dispatcher


class Stamps:
    """What each new request is given, whatever it asks for.

    Args:
        dispatcher: Sends the requests to replicas.
        timeout: Seconds that a request may take.
        random: An integer of n random bits.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        timeout: float,
        *,
        random: Callable[[int], int] = secrets.randbits,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._dispatcher = dispatcher
        self._timeout = timeout
        self._random = random
        self._now = now

    def new_id(self, prefix: str) -> str:
        """A new id: `chatcmpl-…`."""
        return f"{prefix}-{self._random(96):024x}"

    def seed(self) -> int:
        """A seed for a client that gave none: kept for all attempts, so that a resumed stream is consistent."""
        return self._random(63)

    def created(self) -> int:
        """Unix time in seconds, as OpenAI's objects carry it."""
        return int(self._now())

    def deadline(self) -> float:
        """When a request that is made now has to end: seconds on the monotonic clock."""
        return self._dispatcher.clock() + self._timeout
