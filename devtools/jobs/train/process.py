"""The child process that trains: its command, its events, its end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from devtools.jobs.train.inputs import Inputs
from devtools.jobs.train.plan import Plan
from devtools.jobs.train.rendezvous import Rendezvous
from shared.deadlines import JOB_STOP_S
from shared.service.environment import public
from shared.service.python import python_module, safe_path
from shared.service.tether import tethered, tethered_to_parent

Event = Mapping[str, Any]
"""A line of `devtools.train`: its `event`, and what `devtools.train.progress` says of it."""
_LINE_LIMIT = 1 << 20


def trainer(
    recipe: Path,
    plan: Plan,
    inputs: Inputs,
    output: Path,
    *,
    threads: int,
    module: str = "devtools.train",
    more: Sequence[str] = (),
) -> tuple[str, ...]:
    """The command that trains in `output`, or goes on there.

    Args:
        recipe: File with the recipe.
        plan: How it is run.
        inputs: Where base and rows lie.
        output: The folder of the run.
        threads: Of each process.
        module: That is run.
        more: Arguments of its own.
    """
    arguments = [str(recipe), "--output", str(output), "--result", "model", "--threads", str(threads)]
    for name, path in (("base", inputs.base), ("teacher", inputs.teacher), ("validation", inputs.validation)):
        arguments += [f"--{name}", str(path)] if path is not None else []
    for path in inputs.rows:
        arguments += ["--data", str(path)]
    table = plan.job
    arguments += ["--keep-codes", table.keep_codes] + (["--recompute"] if table.recompute else [])
    arguments += ["--checkpoint-seconds", str(table.checkpoint_seconds)]
    arguments += ["--checkpoint-steps", str(table.checkpoint_steps)] if table.checkpoint_steps is not None else []
    return python_module(module, *arguments, *more)


def launched(worker: Sequence[str], at: Rendezvous, processes: int, run_id: str) -> tuple[str, ...]:
    """The command that starts so many workers on this node, which train together with those of the other nodes."""
    listener = [] if at.listener is None else [f"listener={at.listener}"]
    return python_module(
        "devtools.train.launch",
        *("--nnodes", str(at.nodes), "--nproc-per-node", str(processes), "--max-restarts", "0"),
        *("--rdzv-backend", "address", "--rdzv-endpoint", at.endpoint, "--rdzv-id", run_id),
        *("--rdzv-conf", ",".join([f"rank={at.rank}", *listener])),
        *("--shutdown-timeout", str(round(JOB_STOP_S)), "--no-python"),
        *tethered_to_parent(*worker),
    )


async def run_trainer(
    command: Sequence[str],
    threads: int,
    stop: asyncio.Event,
    on_event: Callable[[Event], None],
    *,
    at: Rendezvous | None = None,
) -> int:
    """Run the command to its end; its exit code, negative for a signal.

    Args:
        command: Of `trainer`.
        threads: Of each process.
        stop: When it is set, the process gets SIGTERM.
        on_event: Called with each event.
        at: Where its workers meet those of other nodes, if it is one of `launched`.
    """
    process = await asyncio.create_subprocess_exec(
        *tethered(*command),
        env=_environment(threads, at),
        stdin=subprocess.DEVNULL,
        stdout=PIPE,
        limit=_LINE_LIMIT,
        pass_fds=[at.listener] if at is not None and at.listener is not None else [],
    )
    stopping = asyncio.create_task(_stop(stop, process), name="stop the training")
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            for event in _events(line):
                on_event(event)
        return await process.wait()
    finally:
        stopping.cancel()


async def _stop(stop: asyncio.Event, process: asyncio.subprocess.Process) -> None:
    await stop.wait()
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


def _environment(threads: int, at: Rendezvous | None) -> dict[str, str]:
    """Without the variables of LLMOS, and without secrets."""
    given = public(os.environ)
    # Threads that spin while they wait take the processor from what serves, and from one another.
    if at is not None:
        given["GLOO_SOCKET_IFNAME"] = at.interface
    return safe_path(given) | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


def _events(line: bytes) -> Iterator[Event]:
    """The event of a line; anything else goes to the log."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if isinstance(event, dict) and "event" in event:
        yield event
    else:
        print(line.decode(errors="replace").rstrip(), file=sys.stderr)  # noqa: T201  # the job's log
