"""The life of a service process: connect, start, serve, drain, exit.

    logs -> close to other processes -> follow the parent -> bus -> telemetry -> heartbeats -> enter app -> ready
    SIGTERM -> leave app (drain) -> last heartbeat -> flush telemetry -> drain bus -> exit 0

Clean-up also runs after a failed start. Exit codes: 0 stopped as asked; 1 crashed, could not start, or the drain was
cut short; 2 wrong settings. A second signal ends the process at once by that signal. SIGUSR1 writes the stacks of all
threads to stderr, and changes nothing else.
"""

import asyncio
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import FrameType, TracebackType

import structlog

from shared.audit.digest import digest
from shared.bus.connect import connect
from shared.bus.port import Bus
from shared.contracts.events import CHAINS
from shared.deadlines import BUS_DRAIN_S, CUT_S, TEARDOWN_S, TELEMETRY_FLUSH_S
from shared.disk import Disk, DiskUse
from shared.errors import LlmosError
from shared.service import stacks
from shared.service.background import background
from shared.service.context import Context
from shared.service.environment import without_secrets
from shared.service.exhaustion import why_no_files
from shared.service.heartbeat import HeartbeatPublisher
from shared.service.parent import follow_parent
from shared.service.private_process import keep_private
from shared.service.readiness import Readiness
from shared.service.settings import ServiceSettings, Settings, load_settings
from shared.telemetry import setup as telemetry
from shared.telemetry.logs import configure_logs
from shared.version import llmos_version

__all__ = ["App", "Context", "Readiness", "main", "run_service"]

_log = structlog.get_logger("llmos.service")

App = Callable[[Context], AbstractAsyncContextManager[None]]
"""Entering is starting up, leaving is draining."""

EXIT_OK, EXIT_FAILED, EXIT_SETTINGS = 0, 1, 2


def main(
    name: str, kind: type[Settings], app: Callable[[Context, Settings], AbstractAsyncContextManager[None]]
) -> int:
    """All that a service's `__main__` does: read the settings, run `app(context, settings)`; the exit code.

    To be followed by `sys.exit`: the process ends within `TEARDOWN_S` even if a thread does not.
    """
    try:
        settings = load_settings(kind)
    except LlmosError as error:
        configure_logs("console" if sys.stderr.isatty() else "json", "info", service=name)
        _log.error("settings.invalid", error=error.message)
        return EXIT_SETTINGS
    code = run_service(name, lambda context: app(context, settings), settings)
    _limit(TEARDOWN_S, code)  # for threads that the interpreter waits for at exit
    return code


def run_service(name: str, app: App, settings: ServiceSettings) -> int:
    """Run `app` until SIGTERM or SIGINT; the exit code for `sys.exit`. Main thread only."""
    instance = settings.instance or f"{name}-{secrets.token_hex(3)}"
    disk = Disk(settings.disk_folder)
    configure_logs(
        settings.log_format,
        settings.log_level,
        service=name,
        instance=instance,
        warnings_only=lambda: disk.why_not(DiskUse.TELEMETRY) is not None,
    )
    threading.excepthook = _log_thread_crash
    stacks.dump_on_signal()
    keep_private()
    follow_parent()
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        code = runner.run(_Life(name, instance, app, settings, disk).run())
        limit = _limit(TEARDOWN_S, code)  # closing the loop waits for the threads of its executor
    limit.cancel()
    return code


class _Life:
    """One run of one service."""

    def __init__(self, name: str, instance: str, app: App, settings: ServiceSettings, disk: Disk) -> None:
        self._name = name
        self._instance = instance
        self._app = app
        self._settings = settings
        self._disk = disk
        self._stop = asyncio.Event()
        self._started = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        serving = asyncio.create_task(self._serve(), name="serve")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        cut, limit = False, self._settings.drain_timeout + CUT_S + TELEMETRY_FLUSH_S + BUS_DRAIN_S
        watchdog = _limit(limit, EXIT_FAILED)
        if not serving.done():
            if not self._started:
                serving.cancel()
            cut = not await _finished(serving, self._settings.drain_timeout)
        stopping.cancel()
        if cut:
            _log.error("service.drain_timed_out", drain_timeout_s=self._settings.drain_timeout)
            serving.cancel()
            if not await _finished(serving, CUT_S):
                _end_the_process(EXIT_FAILED)
        watchdog.cancel()
        return self._exit_code(serving, cut=cut)

    async def _serve(self) -> None:
        readiness = Readiness()
        readiness.set("start", "starting")
        async with AsyncExitStack() as stack:
            bus = await connect(
                self._settings.nats_url,
                name=self._instance,
                why_no_changes=lambda: self._disk.why_not(DiskUse.CHANGES),
            )
            stack.push_async_callback(_drain, bus)
            readiness.probe("bus", lambda: None if bus.connected else "not connected")
            readiness.probe("files", why_no_files)
            telemetry.configure(self._name, self._instance, bus, self._disk)
            stack.push_async_callback(telemetry.shutdown)
            context = Context(self._name, self._instance, bus, readiness, self._disk, stop=self._stop.set)
            await stack.enter_async_context(HeartbeatPublisher(context, self._settings.health_file).running())
            async with self._app(context):
                self._started = True
                readiness.set("start", None)
                if self._name in CHAINS:
                    await stack.enter_async_context(background(self._note_start(context), "record the start"))
                _log.info("service.ready")
                await self._stop.wait()
                readiness.set("drain", "draining")
                _log.info("service.draining", drain_timeout_s=self._settings.drain_timeout)

    async def _note_start(self, context: Context) -> None:
        """Record the start with the settings: these are the changes of settings."""
        values = {name: str(value) for name, value in sorted(self._settings.model_dump(mode="json").items())}
        public = without_secrets(values)
        given = sorted(self._settings.model_fields_set - {"instance", "health_file"})
        about = {"settings": digest(repr(public).encode())[:12], "given": ", ".join(given)}
        await context.trail().note("service.started", self._instance, by="", version=llmos_version(), **about)

    def _on_signal(self, number: signal.Signals) -> None:
        """Begin to stop, and let a second signal end the process at once, however busy it is."""
        _log.info("service.stop_requested", signal=number.name)
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            # The kernel lets no default action end the first process of a container.
            signal.signal(each, _exit_at_once if os.getpid() == 1 else signal.SIG_DFL)
        self._stop.set()

    def _exit_code(self, serving: asyncio.Task[None], *, cut: bool) -> int:
        if serving.cancelled():
            if not self._stop.is_set():
                _log.error("service.crashed", error="its main task was cancelled from within")
            return EXIT_OK if self._stop.is_set() and not cut else EXIT_FAILED
        error = serving.exception()
        if error is None:
            _log.info("service.stopped")
            return EXIT_FAILED if cut else EXIT_OK
        event = "service.crashed" if self._started else "service.start_failed"
        expected = all(isinstance(leaf, LlmosError | OSError) for leaf in _leaves(error))
        _log.error(event, error=_describe(error), exc_info=None if expected else error)
        return EXIT_FAILED


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        import uvloop  # noqa: PLC0415  # optional: it comes with some services' extras only
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _limit(seconds: float, code: int) -> threading.Timer:
    """End the process with `code` after `seconds`, unless the timer is cancelled before."""
    timer = threading.Timer(seconds, _end_the_process, (code,))
    timer.daemon = True
    timer.start()
    return timer


def _end_the_process(code: int) -> None:
    """For a service that reacts neither to its cancellation nor to the end of its time."""
    threads = [thread.name for thread in threading.enumerate() if not thread.daemon]
    _log.critical("service.killed", exit_code=code, threads=threads)
    os._exit(code)


def _exit_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


async def _finished(task: asyncio.Task[None], timeout: float) -> bool:
    done, _ = await asyncio.wait({task}, timeout=timeout)
    return bool(done)


async def _drain(bus: Bus) -> None:
    try:
        async with asyncio.timeout(BUS_DRAIN_S):
            await bus.drain()
    except TimeoutError:
        _log.warning("bus.drain_timed_out", timeout_s=BUS_DRAIN_S)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


def _describe(error: BaseException) -> str:
    """What went wrong in one line: our own messages as they are, others with their type."""
    return "; ".join(
        leaf.message if isinstance(leaf, LlmosError) else f"{type(leaf).__name__}: {leaf}" for leaf in _leaves(error)
    )


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    error: tuple[type[BaseException], BaseException | None, TracebackType | None]
    error = (crash.exc_type, crash.exc_value, crash.exc_traceback)
    _log.error("thread.crashed", thread=crash.thread.name if crash.thread else "?", exc_info=error)
