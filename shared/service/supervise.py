"""Child processes that are restarted when they end, and never outlive their supervisor."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from shared.deadlines import CHILD_STOP_S
from shared.errors import LlmosError, NotFound
from shared.service import child_log
from shared.service.environment import without_secrets
from shared.service.health_file import HEALTH_FILE_VARIABLE
from shared.service.parent import PARENT_BIRTH_VARIABLE, PARENT_PID_VARIABLE
from shared.service.process_identity import ProcessIdentity, birth
from shared.service.python import safe_path
from shared.service.settings import INSTANCE_VARIABLE
from shared.service.tether import tethered

_log = structlog.get_logger("llmos.supervise")

_OWN_VARIABLES = {INSTANCE_VARIABLE, HEALTH_FILE_VARIABLE}
RESTARTS_VARIABLE = "LLMOS_RESTARTS"
"""In a child's environment: how often it was restarted."""
BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 10.0
STEADY_S = 30.0
"""After this long the back-off of a child begins again at `BACKOFF_FIRST_S`."""


@dataclass(frozen=True)
class ChildSpec:
    """What to run."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the supervisor's own environment (less its instance name and health file, which are its own)."""
    inherits_secrets: bool = True
    """Whether the supervisor's environment goes on with its secrets."""
    before_start: Callable[[], Awaitable[None]] | None = None
    """Awaited before each start of the process. What it raises is a start that failed."""
    log: Path | None = None
    """Takes stdout and stderr, appended; None: inherited."""
    log_limit: int = child_log.LIMIT
    """Bytes of the log; earlier lines are in `<log>.1`, which has at most as many."""
    stop_timeout: float = CHILD_STOP_S
    """Seconds between `stop_signal` and SIGKILL."""
    stop_signal: signal.Signals = signal.SIGTERM


class Child:
    """One supervised process: started again with back-off whenever it ends, until `stop`.

    It runs in its own session, so Ctrl-C on a terminal reaches the supervisor alone, and whatever it leaves behind in
    its process group is killed. It dies with its supervisor, even by `kill -9` (Linux: when the *thread* that runs
    this event loop ends, so run the loop in the main thread).

    Args:
        spec: What to run.
        on_change: Called on the event loop after every start, end and stop.
    """

    def __init__(self, spec: ChildSpec, *, on_change: Callable[["Child"], None] | None = None) -> None:
        self.spec = spec
        self.restarts = 0
        """How often it was started again."""
        self.last_exit = ""
        """How it ended last: `exited with code 1`, `killed by SIGKILL`; empty: not yet."""
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._supervision: asyncio.Task[None] | None = None
        self._rotation: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the process lives now."""
        return self._process is not None

    async def start(self) -> None:
        """Start the process and supervise it. Call once.

        Raises:
            NotFound: there is no such program.
            LlmosError: what `before_start` raises.
            OSError: the log file cannot be written, or the machine has no process to spare.
        """
        if self._supervision is not None:
            raise RuntimeError(f"{self.spec.name} was already started")
        await self._spawn()
        self._supervision = asyncio.create_task(self._supervise(), name=f"supervise {self.spec.name}")
        if self.spec.log is not None:
            rotating = child_log.rotate_above(self.spec.log, self.spec.log_limit)
            self._rotation = asyncio.create_task(rotating, name=f"rotate the log of {self.spec.name}")
            self._supervision.add_done_callback(lambda _: self._rotation and self._rotation.cancel())

    def kill(self) -> None:
        """End the process now; it is started again."""
        if self._process is not None:
            _kill_group(self._process.pid)

    async def stop(self) -> None:
        """Ask the process to end; kill it after `stop_timeout`. Returns when it has ended. Idempotent.

        Cancelled while waiting, it kills the process at once.
        """
        first = not self._stopping.is_set()
        self._stopping.set()
        if self._supervision is None or self._supervision.done():
            return
        if first and self._process is not None:
            _send(self._process.pid, self.spec.stop_signal)
        try:
            done, _ = await asyncio.wait({self._supervision}, timeout=self.spec.stop_timeout)
            if not done:
                _log.warning(
                    "child.killed", child=self.spec.name, pid=self.pid, stop_timeout_s=self.spec.stop_timeout
                )
        finally:
            if self._process is not None:
                _kill_group(self._process.pid)
        await self._supervision

    async def _supervise(self) -> None:
        """Wait for the end of each process and start the next, until `stop`."""
        delay = BACKOFF_FIRST_S
        while True:
            if self._process is not None:
                started = time.monotonic()
                await self._ended(self._process)
                if time.monotonic() - started >= STEADY_S:
                    delay = BACKOFF_FIRST_S
            if self._stopping.is_set():
                return
            _log.warning(
                "child.exited",
                child=self.spec.name,
                how=self.last_exit,
                restarts=self.restarts,
                delay_s=delay,
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
                return
            delay = min(2 * delay, BACKOFF_MAX_S)
            self.restarts += 1
            try:
                await self._spawn()
            except (LlmosError, OSError) as error:
                self.last_exit = f"could not be started: {error}"
                self._changed()

    async def _ended(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        # While anything of its group lives, the system gives its pid to no other process. If a process has the pid,
        # the group has ended and the pid is a stranger's.
        if birth(process.pid) is None:
            _kill_group(process.pid)
        self._process = None
        self.last_exit = describe_exit(code)
        self._changed()

    async def _spawn(self) -> None:
        if self.spec.before_start is not None:
            await self.spec.before_start()
        given = os.environ if self.spec.inherits_secrets else without_secrets(os.environ)
        inherited = {key: value for key, value in given.items() if key not in _OWN_VARIABLES}
        this = ProcessIdentity.own()
        own = {
            PARENT_PID_VARIABLE: str(this.pid),
            PARENT_BIRTH_VARIABLE: this.birth,
            RESTARTS_VARIABLE: str(self.restarts),
        }
        environment = safe_path({**inherited, **self.spec.env, **own})
        program = shutil.which(self.spec.argv[0], path=environment.get("PATH"))
        if program is None:
            raise NotFound(f"{self.spec.name}: there is no program {self.spec.argv[0]!r}")
        output = self._open_log()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *tethered(program, *self.spec.argv[1:]),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            if output is not None and output >= 0:
                os.close(output)
        if self._stopping.is_set():  # stop() came while the process was being made
            _send(self._process.pid, self.spec.stop_signal)
        _log.info("child.started", child=self.spec.name, pid=self._process.pid)
        self._changed()

    def _open_log(self) -> int | None:
        """For its output; None: this process's own. Without a place for its log a process runs all the same."""
        if self.spec.log is None:
            return None
        try:
            return child_log.open_log(self.spec.log)
        except OSError as error:
            if self._supervision is None:  # at the first start a person looks on
                raise
            _log.warning("log.not_opened", child=self.spec.name, path=str(self.spec.log), error=str(error))
            return asyncio.subprocess.DEVNULL

    def _changed(self) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(self)
        except Exception:  # noqa: BLE001  # a listener must not end the supervision of the child
            _log.exception("child.listener_failed", child=self.spec.name)


def describe_exit(code: int) -> str:
    """How a process ended, from `Process.returncode`."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill_group(pid: int) -> None:
    """Kill all that is left in the session's process group; it bears the number of its first process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
