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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from devtools.jobs.train.inputs import Inputs
from devtools.jobs.train.plan import Plan
from shared.deadlines import JOB_STOP_S
from shared.errors import UnsupportedFormat
from shared.service.environment import without_secrets
from shared.service.python import python_module, safe_path
from shared.service.tether import tethered, tethered_to_parent

Event = Mapping[str, Any]
"""A line of `devtools.train`: its `event`, and what `devtools.train.progress` says of it."""
_LINE_LIMIT = 1 << 20


def require_torch() -> None:
    """Raise UnsupportedFormat where this Python can't train. PyTorch is not imported."""
    if find_spec("torch") is None:
        raise UnsupportedFormat(
            f"training needs PyTorch, and {sys.executable} has none: run \"pip install 'llmos[train]'\" with it, or"
            " set LLMOS_INFERENCE_JOB_COMMAND on the node to a Python that has it: PYTHON -P -m devtools.jobs.run"
        )


def trainer(
    recipe: Path,
    plan: Plan,
    inputs: Inputs,
    output: Path,
    *,
    threads: int,
    processes: int,
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
        processes: How many train together.
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
    worker = python_module(module, *arguments, *more)
    if processes == 1:
        return worker
    return python_module(
        "torch.distributed.run",
        *("--nnodes", "1", "--nproc-per-node", str(processes), "--max-restarts", "0"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--master-addr", "127.0.0.1"),
        *("--shutdown-timeout", str(round(JOB_STOP_S)), "--no-python"),
        *tethered_to_parent(*worker),
    )


async def run_trainer(
    command: Sequence[str], threads: int, stop: asyncio.Event, on_event: Callable[[Event], None]
) -> int:
    """Run the command to its end; its exit code, negative for a signal.

    Args:
        command: Of `trainer`.
        threads: Of each process.
        stop: When it is set, the process gets SIGTERM.
        on_event: Called with each event.
    """
    process = await asyncio.create_subprocess_exec(
        *tethered(*command),
        env=_environment(threads),
        stdin=subprocess.DEVNULL,
        stdout=PIPE,
        limit=_LINE_LIMIT,
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


def _environment(threads: int) -> dict[str, str]:
    """Without the variables of LLMOS, and without secrets."""
    given = without_secrets({name: value for name, value in os.environ.items() if not name.startswith("LLMOS_")})
    # Threads that spin while they wait take the processor from what serves, and from one another.
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
