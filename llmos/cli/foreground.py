"""`llmos up` in the foreground: starts the embedded system, waits for a signal, drains it."""

import asyncio
import logging
import signal
import time

import structlog
import typer

from llmos import leftovers
from llmos.cli import demo
from llmos.cli.output import note, say
from llmos.client import Client
from llmos.embedded.key_recovery import ADVICE
from llmos.embedded.logs import FullDiskLog
from llmos.embedded.system import EmbeddedSystem, running
from llmos.home import Home, Ports
from shared.errors import PermissionDenied, Unauthenticated


async def run(home: Home, port: int | None, store: str | None, with_demo: bool) -> None:
    """Run the system of `home` until SIGINT, SIGTERM or SIGHUP. Exit code 130 if it was not ready by then."""
    begin = time.monotonic()
    _log_to_file(home)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    main_task = asyncio.current_task()
    assert main_task is not None
    started = False

    def on_signal() -> None:
        # Before it is ready a signal ends the start; afterwards it ends the wait. Both drain on the way out, unless a
        # second signal comes.
        if started and not stop.is_set():
            stop.set()
        else:
            main_task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)

    def on_start(ports: Ports) -> None:
        note(f"LLMOS starts on 127.0.0.1:{ports.http} from {home.root}")

    try:
        async with running(home, port=port, store_url=store, on_start=on_start, note=note) as system:
            await asyncio.to_thread(_remove_leftovers, system, home, store)
            if with_demo:
                await asyncio.to_thread(_demo, system, home)
            _greet(system, home, time.monotonic() - begin)
            started = True
            system.announce(ready=True)
            await stop.wait()
            note("draining")
    except asyncio.CancelledError:
        note("stopped without draining" if started else "stopped before it was ready")
        raise typer.Exit(130) from None


def _log_to_file(home: Home) -> None:
    """The launcher's own log goes where its children's go; the terminal is for the person."""
    log = FullDiskLog(home.logs / "launcher.log")
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=log),  # type: ignore[arg-type]  # all that it uses
    )


def _demo(system: EmbeddedSystem, home: Home) -> None:
    with Client(system.url, home.admin_key() or "") as client:
        try:
            demo.run(client)
        except (Unauthenticated, PermissionDenied) as error:
            note(f"no demo: {error.message}. {ADVICE}")


def _remove_leftovers(system: EmbeddedSystem, home: Home, store: str | None) -> None:
    leftovers.remove_folders(home)
    if store is None:  # a store of its own: no other system has versions in it
        with Client(system.url, home.admin_key() or "") as client:
            leftovers.remove_blobs(home, client)


def _greet(system: EmbeddedSystem, home: Home, seconds: float) -> None:
    say(f"ready in {seconds:.1f} s", style="bold green")
    say(f"  API      {system.url}/v1   (OpenAI-compatible, loopback only)")
    if system.grpc_port != "off":
        say(f"  gRPC     127.0.0.1:{system.grpc_port}   (Open Inference Protocol)")
    say(f"  metrics  {system.url}/metrics")
    say(f"  key      {home.key_file}   (admin; make others with 'llmos key create NAME')")
    say("try")
    say(f"  llmos chat {demo.NAME}")
    say("  llmos status")
    say(f'  curl {system.url}/v1/models -H "Authorization: Bearer $(cat {home.key_file})"')
    say("Ctrl-C drains and stops.")
