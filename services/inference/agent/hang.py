"""Decides when a replica's process hangs and is to be ended. Pure: times are arguments.

The replica itself says that its engine has stalled. A process that is stopped, or whose event loop is blocked, says
nothing: its load reports stop and its lease expires. One that loads may take long.
"""

from dataclasses import dataclass

from shared.contracts.scheduler import ReplicaState
from shared.deadlines import LEASE_TTL_S, SILENCE_RESTART_S, STALL_RESTART_S

LOOK_S = 2.0
"""What counts at most of the time between two looks: the agent looks every second, unless it was paused itself."""


@dataclass(slots=True)
class HangDetector:
    """What one process said about itself. Made again for each process.

    Args:
        load_timeout: Seconds that a replica has to become ready.
    """

    load_timeout: float
    _was_ready: bool = False
    _heard: bool = False
    """Whether it has reported its load since the last look."""
    _looked_at: float | None = None
    _not_ready: float = 0.0
    """Seconds since the replica was ready last, or since the first look; likewise below."""
    _stalled: float = 0.0
    _silent: float = 0.0
    """Since its lease expired."""

    @property
    def silence(self) -> float:
        """Seconds for which a replica that was ready has given no sign of life; 0 until its lease has expired."""
        return self._silent and LEASE_TTL_S + self._silent

    def heard(self) -> None:
        """The replica has reported its load."""
        self._heard = True

    def look(self, state: ReplicaState | None, now: float) -> str | None:
        """Why the process is to be ended, or None.

        Args:
            state: What the replica says now; None: its lease has expired.
            now: Seconds, monotonic.
        """
        elapsed = 0.0 if self._looked_at is None else min(now - self._looked_at, LOOK_S)
        self._looked_at = now
        heard, self._heard = self._heard, False
        if state in {ReplicaState.READY, ReplicaState.DRAINING}:
            self._was_ready = True
        if state is None and heard and self._was_ready:
            state = ReplicaState.READY  # it lives: only its lease could not be renewed
        ready = state in {ReplicaState.READY, ReplicaState.DRAINING}
        self._not_ready = 0.0 if ready else self._not_ready + elapsed
        self._stalled = self._stalled + elapsed if state is ReplicaState.STALLED else 0.0
        self._silent = self._silent + elapsed if state is None and self._was_ready else 0.0
        if self._stalled > STALL_RESTART_S:
            return f"had stalled for {STALL_RESTART_S:g} s"
        if self.silence > SILENCE_RESTART_S:
            return f"was silent for {SILENCE_RESTART_S:g} s"
        if self._not_ready > self.load_timeout:
            return f"was not ready within {self.load_timeout:g} s"
        return None
