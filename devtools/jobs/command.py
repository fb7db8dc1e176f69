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

from devtools.jobs.files import fetch_checkpoint, fetch_version, upload_folder
from devtools.jobs.results import Made, version_of
from devtools.jobs.tool import Run, Stopped
from devtools.quantization import Quantize, scheme_after
from devtools.train.result.hf_directory import export_version
from shared.contracts.dataset import DatasetManifest
from shared.contracts.job import Checkpoint, Progress
from shared.contracts.manifest import Manifest
from shared.errors import LlmosError
from shared.service.environment import public
from shared.service.tether import tethered

_PLACES = ("base", "data", "output", "checkpoints")


async def run_user_command(run: Run) -> None:
    """A job of kind `run`."""
    spec, workspace = run.assignment.spec, run.workspace
    folders = {"output": workspace.output, "checkpoints": workspace.checkpoints}
    if run.assignment.checkpoint is not None:
        await fetch_checkpoint(run.store, run.assignment.checkpoint, workspace.checkpoints, run.cache)
    base = None
    if spec.base is not None:
        folder, base = await fetch_version(run.store, spec.base, Manifest, workspace.inputs, run.cache)
        folders["base"] = await _as_hugging_face(folder, base)
    for dataset in spec.datasets:
        await fetch_version(run.store, dataset, DatasetManifest, workspace.inputs, run.cache)
        folders["data"] = workspace.inputs
    code = await run_command(spec.command, folders, run.stop)
    if run.stop.is_set():
        saved = await upload_folder(run.store, workspace.checkpoints)
        run.messages.send(checkpoint=Checkpoint(step=run.assignment.attempt, files=saved))
        raise Stopped
    if code != 0:
        how = f"ended with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
        raise LlmosError(f"{spec.command[0]} {how}; see its log")
    run.messages.send(progress=Progress(step=1, steps=1))
    if spec.result is not None:
        quantize: Quantize = scheme_after(base.lineage.quantization) if base is not None else "auto"
        made = Made(job=run.assignment.id, quantize=quantize, base=base, base_folder=folders.get("base"))
        run.messages.send(result=await version_of(spec, workspace.output, run.store, made))


async def _as_hugging_face(folder: Path, manifest: Manifest) -> Path:
    """A decoder as a Hugging Face directory, which trainers read; an encoder's files as they are."""
    if not manifest.generates:
        return folder
    exported = folder.with_name(f"{folder.name}-hf")
    if not exported.exists():
        await asyncio.to_thread(export_version, folder, exported)
    return exported


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
        env={**public(os.environ), **variables},
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
