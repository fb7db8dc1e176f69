"""Cancels requests at replicas, in the background."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog

from services.gateway.dispatch.frame_receiver import Attempt
from shared.bus.port import Bus
from shared.bus.rpc import call
from shared.contracts.replica import Cancel, cancel_endpoint
from shared.errors import DeadlineExceeded, LlmosError

_log = structlog.get_logger("llmos.gateway")

CANCEL_TIMEOUT_S = 2.0


class Cancellations:
    """Cancel requests on their way to replicas."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Cancellations"]:
        """Cancel requests while the block runs; on leaving, those on their way have time to arrive."""
        try:
            yield self
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=2 * CANCEL_TIMEOUT_S)

    def cancel(self, attempt: Attempt, *, after: "asyncio.Future[Any] | None" = None) -> None:
        """Cancel an attempt at its replica, `after` the replica has decided whether it accepts the request."""
        task = asyncio.create_task(self._cancel(attempt, after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel(self, attempt: Attempt, after: "asyncio.Future[Any] | None") -> None:
        if after is not None:
            await asyncio.wait((after,))
            refusal = after.exception()
            if refusal is not None and not isinstance(refusal, DeadlineExceeded):
                return
        replica_id = attempt.replica.replica_id
        request = Cancel(request_id=attempt.id)
        try:
            await call(self._bus, cancel_endpoint(replica_id), request, timeout=CANCEL_TIMEOUT_S)
        except LlmosError as error:
            # A replica that is gone has nothing left to cancel.
            _log.info("cancellation.failed", replica=replica_id, request=attempt.id, code=error.code)
