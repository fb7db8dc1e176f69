"""A running graph whose requests have one answer each, to be drained."""

import asyncio
from typing import Protocol

import structlog

_log = structlog.get_logger("llmos.replica")


class Runner(Protocol):
    """`BatchRunner`, whatever it computes."""

    def stalled_s(self) -> float:
        """Seconds without a batch if the runner has stalled, else 0."""
        ...

    def drain(self) -> None:
        """Reject new requests."""
        ...

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no request is active; whether none is."""
        ...


class BatchReplica:
    """An encoder, or a graph with named tensors."""

    chars_per_token = 0
    """A longer text may be asked to be cut; tensors have no tokens."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def stalled_s(self) -> float:
        """Seconds without a batch if the runner has stalled, else 0."""
        return self._runner.stalled_s()

    def stop_accepting(self) -> None:
        """Reject new requests."""
        self._runner.drain()

    async def drain(self, grace: float) -> None:
        """Let requests finish for `grace` seconds; the rest ends with a retryable error at the close."""
        if not await asyncio.to_thread(self._runner.wait_idle, grace):
            _log.warning("drain.timed_out", grace_s=grace)
