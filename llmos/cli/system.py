"""`llmos up` and `down`: the embedded system."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from typing import Annotated

import structlog
import typer

from llmos.cli import demo
from llmos.cli.options import HomeOption
from llmos.cli.output import console, errors
from llmos.client import Client
from llmos.config import Target
from llmos.embedded.system import EmbeddedSystem, last_line, running
from llmos.home import Home, Ports
from shared.deadlines import DOWN_S
from shared.errors import Unavailable

DETACH_TIMEOUT_S = 600.0
"""The first start imports the demo model."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: llmos up · llmos up --detach --no-demo · llmos up --home /srv/llmos --port 9000")(
        up
    )
    app.command()(down)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready, and go on in the background.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="HTTP port. [default: 8000, or a free one]", show_default=False),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="LLMOS_STORE_URL",
            help="Where model files live: file:///… or s3://bucket?endpoint=… [default: the home]",
            show_default=False,
        ),
    ] = None,
    with_demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="Import, deploy and ask the demo model.")
    ] = True,
    home: HomeOption = None,
) -> None:
    """Start LLMOS on this machine: a bus and five services on loopback, with an API key."""
    target = Target.resolve(home, None, None)
    if detach:
        _detach(target.home, port, store, with_demo)
    else:
        asyncio.run(_foreground(target.home, port, store, with_demo))


def down(home: HomeOption = None) -> None:
    """Drain and stop the system that runs from the home."""
    chosen = Target.resolve(home, None, None).home
    system = chosen.system()
    if system is None:
        console.print(f"nothing runs from {chosen.root}")
        return
    os.kill(system.pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_S
    with errors.status("draining"):
        while time.monotonic() < deadline:
            try:
                os.kill(system.pid, 0)
            except ProcessLookupError:
                console.print("stopped")
                return
            time.sleep(0.05)
    raise Unavailable(f"pid {system.pid} did not stop within {DOWN_S:.0f} s; see {chosen.logs}")


def _log_to_file(home: Home) -> None:
    """The launcher's own log goes where its children's go; the terminal is for the person."""
    log = (home.logs / "launcher.log").open("a", buffering=1)
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=log),
    )


async def _foreground(home: Home, port: int | None, store: str | None, with_demo: bool) -> None:
    begin = time.monotonic()
    _log_to_file(home)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    main_task = asyncio.current_task()
    assert main_task is not None
    started = False

    def on_signal() -> None:
        # Before it is ready a signal ends the start; afterwards it ends the wait. Both drain on the way out.
        if started and not stop.is_set():
            stop.set()
        else:
            main_task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)

    def on_start(ports: Ports) -> None:
        errors.print(f"LLMOS starts on 127.0.0.1:{ports.http} from {home.root}")

    try:
        async with running(home, port=port, store_url=store, on_start=on_start) as system:
            if with_demo:
                await asyncio.to_thread(_demo, system, home)
            _greet(system, home, time.monotonic() - begin)
            started = True
            system.announce(ready=True)
            await stop.wait()
            errors.print("draining")
    except asyncio.CancelledError:
        errors.print("stopped before it was ready")
        raise typer.Exit(130) from None


def _demo(system: EmbeddedSystem, home: Home) -> None:
    with Client(system.url, home.admin_key() or "") as client:
        demo.run(client)


def _greet(system: EmbeddedSystem, home: Home, seconds: float) -> None:
    model = demo.NAME
    console.print(f"[bold green]ready[/] in {seconds:.1f} s")
    console.print(f"  API      {system.url}/v1   (OpenAI-compatible, loopback only)")
    console.print(f"  metrics  {system.url}/metrics", highlight=False)
    console.print(f"  key      {home.key_file}   (admin; make others with 'llmos key create NAME')", soft_wrap=True)
    console.print("try")
    console.print(f"  llmos chat {model}", highlight=False)
    console.print("  llmos status")
    console.print(f'  curl {system.url}/v1/models -H "Authorization: Bearer $(cat {home.key_file})"', soft_wrap=True)
    console.print("Ctrl-C drains and stops.")


def _detach(home: Home, port: int | None, store: str | None, with_demo: bool) -> None:
    running_now = home.system()
    if running_now is not None:
        console.print(f"already running at {running_now.url} (pid {running_now.pid})")
        return
    log = home.logs / "llmos.log"
    command = [sys.executable, "-m", "llmos", "up", "--home", str(home.root)]
    command += ["--port", str(port)] if port else []
    command += ["--store", store] if store else []
    command += [] if with_demo else ["--no-demo"]
    with log.open("a") as output:
        child = subprocess.Popen(  # noqa: S603  # our own command
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    deadline = time.monotonic() + DETACH_TIMEOUT_S
    with errors.status("starting"):
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise Unavailable(f"LLMOS did not start: {last_line(log)}; see {log}")
            system = home.system()
            if system is not None and system.ready:
                console.print(f"ready at {system.url}/v1 (pid {system.pid}, log {log}); stop it with 'llmos down'")
                return
            time.sleep(0.1)
    child.terminate()
    raise Unavailable(f"not ready within {DETACH_TIMEOUT_S:.0f} s; see {log}")
