"""One process of a job: from its start to its end, with what it says on the way."""

import asyncio
import os
import signal
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import ValidationError

from shared.contracts.job import JobAssignment, ProcessMessage
from shared.service import child_log
from shared.service.environment import without_secrets
from shared.service.python import safe_path
from shared.service.supervise import describe_exit
from shared.service.tether import tethered

_log = structlog.get_logger("llmos.agent")

_LINE_LIMIT = 1 << 20
"""Bytes of one line at most; a manifest is one line."""
ASSIGNMENT_FILE = "assignment.json"
_NEEDED = frozenset({"LLMOS_S3_ACCESS_KEY", "LLMOS_S3_SECRET_KEY", "LLMOS_JOB_API_KEY_FILE"})
"""The secrets that a job's process gets: it fetches its inputs from the store and asks the gateway. What it starts
gets none."""
_WITHHELD = frozenset({"LLMOS_NATS_URL"})
"""A job's process has no business on the bus."""


@dataclass(frozen=True, slots=True)
class JobCommand:
    """How a job's process is started: the command, and the folder in which each job has its own."""

    argv: tuple[str, ...]
    work_dir: Path
    log_dir: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside what the node agent's own has."""


class JobProcess:
    """Runs the process of one attempt, in a session of its own: what it starts ends with it.

    Args:
        assignment: What it does.
        command: How it is started.
        on_message: Called with each message of the process.
        on_line: Called with each line of its log.
        on_end: Called when it has ended.
    """

    def __init__(
        self,
        assignment: JobAssignment,
        command: JobCommand,
        *,
        on_message: Callable[[ProcessMessage], None],
        on_line: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        self.assignment = assignment
        self.exit_code: int | None = None
        """None until it has ended; negative: killed by that signal."""
        self.failure = ""
        """Why it failed, in its own words or as its last line."""
        self._command = command
        self._on_message = on_message
        self._on_line = on_line
        self._on_end = on_end
        self._process: Process | None = None
        self._last_line = ""
        self._task: asyncio.Task[None] | None = None
        self._killing: asyncio.TimerHandle | None = None
        self._stop_timeout: float | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended, and all that it said was handed on."""
        return self.exit_code is not None

    async def start(self) -> None:
        """Start it. Raises `OSError` when the folder can't be written or there is no process to spare."""
        folder = self._command.work_dir / self.assignment.id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ASSIGNMENT_FILE).write_bytes(self.assignment.encode())
        program, *arguments = self._command.argv
        self._process = await asyncio.create_subprocess_exec(
            *tethered(program, *arguments, str(folder)),
            env=job_environment({**os.environ, **self._command.environment}),
            stdin=subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
        _log.info("job.started", job=self.assignment.id, attempt=self.assignment.attempt, pid=self._process.pid)
        self._task = asyncio.create_task(self._follow(self._process), name=f"follow job {self.assignment.id}")

    def stop(self, timeout: float) -> None:
        """Ask it to save a checkpoint and end; it is killed after `timeout` seconds; a shorter one counts."""
        if self._process is None or self.ended:
            return
        if self._stop_timeout is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)
        if self._stop_timeout is None or timeout < self._stop_timeout:
            self._stop_timeout = timeout
            if self._killing is not None:
                self._killing.cancel()
            self._killing = asyncio.get_running_loop().call_later(timeout, self.kill)

    def kill(self) -> None:
        """End it now, with all that it started."""
        if self._process is not None and not self.ended:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> None:
        """Return when it has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _follow(self, process: Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        log = self._command.log_dir / f"job-{self.assignment.id}.log" if self._command.log_dir else None
        descriptor = child_log.open_log(log) if log else None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_messages(process.stdout, descriptor))
                tasks.create_task(self._read_log(process.stderr, descriptor))
                code = await process.wait()
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it left behind holds the pipes open
        finally:
            if descriptor is not None:
                os.close(descriptor)
            if log is not None:
                with suppress(OSError):
                    await asyncio.to_thread(child_log.rotate, log)
            if self._killing is not None:
                self._killing.cancel()
        if code != 0 and not self.failure:
            self.failure = describe_exit(code) + (f": {self._last_line}" if self._last_line else "")
        self.exit_code = code
        _log.info("job.ended", job=self.assignment.id, how=describe_exit(code))
        self._on_end()

    async def _read_messages(self, stream: asyncio.StreamReader, log: int | None) -> None:
        async for line in _lines(stream):
            try:
                message = ProcessMessage.decode(line) if line.startswith(b"{") else None
            except ValidationError:
                message = None
            if message is None or message == ProcessMessage():
                self._write(line, log)
                continue
            if message.failure is not None:
                self.failure = message.failure
            self._on_message(message)

    async def _read_log(self, stream: asyncio.StreamReader, log: int | None) -> None:
        async for line in _lines(stream):
            self._write(line, log)

    def _write(self, line: bytes, log: int | None) -> None:
        if log is not None:
            with suppress(OSError):  # a full disk must not end the job
                os.write(log, line + b"\n")
        text = line.decode(errors="replace").rstrip()
        if text:
            self._last_line = text
            self._on_line(text)


def job_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """What a job's process inherits of its agent's environment."""
    needed = {name: value for name, value in inherited.items() if name in _NEEDED}
    given = without_secrets(inherited) | needed
    return safe_path({name: value for name, value in given.items() if name not in _WITHHELD})


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The lines without their ends; one above the limit comes in pieces."""
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                yield error.partial
            return
        except asyncio.LimitOverrunError as error:
            yield await stream.readexactly(error.consumed)
            continue
        yield line[:-1]
