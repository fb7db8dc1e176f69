"""`llmos up` and `down`: the embedded system."""

import asyncio
import errno
import os
import signal
import subprocess
import time
from typing import Annotated

import typer

from llmos.cli.options import HomeOption
from llmos.cli.output import errors, say
from llmos.config import Target
from llmos.embedded.logs import last_line
from llmos.home import Home
from shared.deadlines import DOWN_S
from shared.disk import free_bytes, readable_bytes, total_bytes
from shared.errors import PermissionDenied, StorageFull, Unavailable
from shared.service.python import python_module, safe_path

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
        typer.Option(min=1, max=65535, help="HTTP port. \\[default: 8000, or a free one]", show_default=False),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="LLMOS_STORE_URL",
            help="Where model files live: file:///… or s3://bucket?endpoint=… \\[default: the home]",
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
    target.home.make()
    try:
        if detach:
            _detach(target.home, port, store, with_demo)
        else:
            from llmos.cli import foreground  # noqa: PLC0415  # loads the bus; other commands start without it

            asyncio.run(foreground.run(target.home, port, store, with_demo))
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        free, total = readable_bytes(free_bytes(target.home.root)), readable_bytes(total_bytes(target.home.root))
        raise StorageFull(
            f"LLMOS can't start: {target.home.root} has {free} free of {total}; free some space"
        ) from error


def down(home: HomeOption = None) -> None:
    """Drain and stop the system that runs from the home."""
    chosen = Target.resolve(home, None, None).home
    process = chosen.holder()
    if process is None:
        say(f"nothing runs from {chosen.root}")
        return
    try:
        process.send_signal(signal.SIGTERM)
    except PermissionError as error:
        raise PermissionDenied(
            f"pid {process.pid}, which runs from {chosen.root}, belongs to another user; stop it as that user"
        ) from error
    deadline = time.monotonic() + DOWN_S
    with errors.status("draining"):
        while time.monotonic() < deadline:
            if not process.lives():
                say("stopped")
                return
            time.sleep(0.05)
    raise Unavailable(f"pid {process.pid} did not stop within {DOWN_S:.0f} s; see {chosen.logs}")


def _detach(home: Home, port: int | None, store: str | None, with_demo: bool) -> None:
    running_now = home.system()
    if running_now is not None:
        say(f"already running at {running_now.url} (pid {running_now.pid})")
        return
    log = home.logs / "llmos.log"
    command = [*python_module("llmos", "up", "--home", str(home.root))]
    command += ["--port", str(port)] if port else []
    command += ["--store", store] if store else []
    command += [] if with_demo else ["--no-demo"]
    with log.open("a") as output:
        child = subprocess.Popen(  # noqa: S603  # our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=safe_path(os.environ),
        )
    deadline = time.monotonic() + DETACH_TIMEOUT_S
    with errors.status("starting"):
        while time.monotonic() < deadline:
            if child.poll() is not None:
                if free_bytes(home.root) < log.stat().st_blksize:  # it could not write why to its log
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise Unavailable(f"LLMOS did not start: {last_line(log).removeprefix('error: ')}; see {log}")
            system = home.system()
            if system is not None and system.ready:
                say(f"ready at {system.url}/v1 (pid {system.pid}, log {log}); stop it with 'llmos down'")
                return
            time.sleep(0.1)
    child.terminate()
    raise Unavailable(f"not ready within {DETACH_TIMEOUT_S:.0f} s; see {log}")
