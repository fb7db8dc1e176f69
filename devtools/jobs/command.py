"""A program of the user's as a job: base and data are folders, what it leaves in the output folder is the result.

The program finds the folders in its environment and in its arguments:

| variable | argument | what |
|---|---|---|
| `LLMOS_BASE` | `{base}` | the base: a Hugging Face directory (of an encoder, the version's files) |
| `LLMOS_DATA` | `{data}` | one folder for each dataset, with its rows as JSON Lines |
| `LLMOS_OUTPUT` | `{output}` | empty at first; the result |
| `LLMOS_CHECKPOINTS` | `{checkpoints}` | what it saves to go on from; it is there again after a pause, on any node |

It works in the output's parent folder. SIGTERM asks it to save and end.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from shared.service.environment import without_secrets
from shared.service.tether import tethered

_PLACES = ("base", "data", "output", "checkpoints")


async def run_command(command: Sequence[str], folders: Mapping[str, Path], stop: asyncio.Event) -> int:
    """Run the program; its exit code, negative for a signal.

    Args:
        command: The program and its arguments.
        folders: By the names of `_PLACES`; one that the job does not have is left out.
        stop: When it is set, the program gets SIGTERM.
    """
    variables = {f"LLMOS_{name.upper()}": str(path) for name, path in folders.items()}
    arguments = [_filled(argument, folders) for argument in command]
    process = await asyncio.create_subprocess_exec(
        *tethered(*arguments),
        env={**_public(os.environ), **variables},
        cwd=folders["output"].parent,
        stdin=subprocess.DEVNULL,
    )
    stopping = asyncio.create_task(_stop(stop, process), name="stop the command")
    try:
        return await process.wait()
    finally:
        stopping.cancel()


async def _stop(stop: asyncio.Event, process: asyncio.subprocess.Process) -> None:
    await stop.wait()
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


def _filled(argument: str, folders: Mapping[str, Path]) -> str:
    for name in _PLACES:
        if name in folders:
            argument = argument.replace(f"{{{name}}}", str(folders[name]))
    return argument


def _public(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the variables of LLMOS, and without secrets."""
    return without_secrets({name: value for name, value in environment.items() if not name.startswith("LLMOS_")})
