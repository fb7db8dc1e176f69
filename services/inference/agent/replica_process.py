"""One supervised replica process."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import orjson
import structlog

from services.inference.agent.gpus import VISIBLE
from services.inference.agent.hang import HangDetector
from shared.bus.port import Bus
from shared.bus.rpc import call
from shared.contracts.base import Empty
from shared.contracts.replica import drain_endpoint
from shared.contracts.scheduler import ReplicaAssignment, ReplicaState, ReplicaStatus
from shared.deadlines import DRAIN_REQUEST_S, STACK_DUMP_S
from shared.errors import LlmosError, NoResponders
from shared.service import stacks
from shared.service.exhaustion import oom_kills
from shared.service.supervise import Child, ChildSpec

_TAIL_BYTES = 4096
_LINE_CHARS = 300
_FRAME = " |+-\t"
"""Python draws these around the traceback of an exception group."""
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)

_log = structlog.get_logger("llmos.agent")


def replica_environment(
    assignment: ReplicaAssignment, *, node: str, drain_timeout: float, nats_url: str, files: Path
) -> Mapping[str, str]:
    """The variables that a replica gets beside those of the agent's own that are no secrets."""
    threads = str(assignment.resources.threads)
    return {
        "LLMOS_NATS_URL": nats_url,
        "LLMOS_REPLICA_ASSIGNMENT": assignment.encode().decode(),
        "LLMOS_REPLICA_FILES": str(files),
        "LLMOS_NODE_ID": node,
        "LLMOS_INSTANCE": assignment.id,
        "LLMOS_DRAIN_TIMEOUT": str(drain_timeout),
        "TOKENIZERS_PARALLELISM": "false",
        VISIBLE: assignment.gpu,  # the only GPU that it sees; none on a CPU
        **dict.fromkeys(_THREAD_VARIABLES, threads),
    }


class ReplicaProcess:
    """A replica from its start on this node to its removal; its process is started again when it ends.

    Args:
        assignment: What it serves.
        spec: How its process is started.
        on_change: Called when the process has started or ended.
        load_timeout: Seconds within which a process that was started must be ready.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        assignment: ReplicaAssignment,
        spec: ChildSpec,
        on_change: Callable[[], None],
        *,
        load_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.assignment = assignment
        self.stopping = False
        self.failure = ""
        """Why the process ended last; empty before that, and once the replica is ready again."""
        self.status_revision: int | None = None
        """The revision of the status that the agent wrote in the replica's place: at its start, or while it is
        unresponsive. None once the replica writes its own."""
        self._on_change = on_change
        self._clock = clock
        self._load_timeout = load_timeout
        self._hang = HangDetector(load_timeout)
        self._dumped_at: float | None = None
        """When a process that hangs was asked for its stacks."""
        self._kill_reason = ""
        self._oom_kills: int | None = None
        """Of the system, when the process started."""
        self._child = Child(spec, on_change=self._changed)

    @property
    def running(self) -> bool:
        """Whether the process lives now."""
        return self._child.running

    @property
    def restarts(self) -> int:
        """How often the process was started again."""
        return self._child.restarts

    @property
    def silence(self) -> float:
        """Seconds for which a replica that was ready has given no sign of life; 0 until its lease has expired."""
        return self._hang.silence if self.running else 0.0

    def heard(self) -> None:
        """The replica has reported its load."""
        self._hang.heard()

    async def start(self) -> None:
        """Start the process. Raises what `Child.start` raises."""
        await self._child.start()

    def check(self, status: ReplicaStatus | None) -> None:
        """Note what the replica says now, and end its process if it hangs: first its stacks go to its log.

        To be called every second; `status` is None without a valid lease.
        """
        pid = self._child.pid
        if pid is None or self.stopping:
            return
        state = None if status is None or status.state is ReplicaState.UNRESPONSIVE else status.state
        if status is not None and status.restarts != self.restarts:
            state = ReplicaState.STARTING  # what the process before this one said
        if state in {ReplicaState.READY, ReplicaState.DRAINING}:
            self.failure = ""
        was_silent, now = self.silence > 0, self._clock()
        reason = self._hang.look(state, now)
        if was_silent and not self.silence:
            self.status_revision = None  # it lives, and writes its own
        if reason is None:
            self._dumped_at, self._kill_reason = None, ""
        elif self._dumped_at is None:
            _log.error(
                "replica.hangs", replica=self.assignment.id, pid=pid, reason=reason, next="its stacks, SIGKILL"
            )
            self._dumped_at = now
            self._kill_reason = f"{reason} and was killed"
            stacks.request_dump(pid)
        elif now - self._dumped_at >= STACK_DUMP_S:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def add_reason(self, message: str) -> None:
        """Add the replica's own message about its failure."""
        if not self.running and message and message not in self.failure:
            self.failure = f"{self._child.last_exit}: {message}"

    async def stop(self, bus: Bus) -> None:
        """Drain and end the process; it is killed after the `stop_timeout` of its spec."""
        self.stopping = True
        if self.running and bus.connected:
            try:
                await call(bus, drain_endpoint(self.assignment.id), Empty(), timeout=DRAIN_REQUEST_S)
            except NoResponders:  # it does not serve yet, so there is nothing to drain
                pass
            except LlmosError as error:
                _log.warning("replica.drain_not_confirmed", replica=self.assignment.id, error=error.message)
        await self._child.stop()

    async def kill(self) -> None:
        """End the process now; returns when it has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await self._child.stop()  # a cancelled stop kills the process
        await self._child.stop()

    def _changed(self, child: Child) -> None:
        if child.running:
            self._hang, self._dumped_at = HangDetector(self._load_timeout), None
            self._oom_kills = oom_kills()
        elif not self.stopping:
            self.status_revision = None
            self.failure = self._kill_reason or exit_reason(child, self._oom_kills)
            _log.warning("replica.ended", replica=self.assignment.id, how=self.failure)
            self._kill_reason = ""
        self._on_change()


def exit_reason(child: Child, oom_kills_before: int | None) -> str:
    """How a process ended, and its last log line: `exited with code 1: no blob …`.

    Args:
        child: Which ended, but not by its agent.
        oom_kills_before: `oom_kills` when it started.
    """
    if child.last_exit == "killed by SIGKILL":
        now = oom_kills()
        if now is None or oom_kills_before is None:
            return f"{child.last_exit}, by hand or by the system for lack of memory"
        if now > oom_kills_before:
            return f"{child.last_exit}: the system killed {now - oom_kills_before} for lack of memory meanwhile"
        return f"{child.last_exit} by hand: the system killed none for lack of memory"
    line = last_log_line(child.spec.log) if child.spec.log else ""
    return f"{child.last_exit}: {line}" if line else child.last_exit


def last_log_line(path: Path) -> str:
    """The last line with words in a log, at most 300 characters; of a JSON log line its error, else its event."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    worded = (line.strip(_FRAME) for line in reversed(lines) if any(map(str.isalpha, line)))
    text = _event_text(next(worded, ""))
    return text if len(text) <= _LINE_CHARS else text[: _LINE_CHARS - 1] + "…"


def _event_text(line: str) -> str:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line
    if not isinstance(record, dict) or "event" not in record:
        return line
    return str(record.get("error") or record["event"])
