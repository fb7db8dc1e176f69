"""The process of a job: `python -P -m devtools.jobs.run FOLDER`.

Exit codes: 0 done; 75 (`STOPPED_EXIT_CODE`) stopped by SIGTERM, a checkpoint is in the store; 65
(`REFUSED_EXIT_CODE`) the input was refused, and would be refused again; 1 failed. The node agent got the reason. A
second SIGTERM ends the process at once.
"""

import asyncio
import errno
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import ValidationError

from devtools.jobs.command import run_command
from devtools.jobs.evaluate import evaluate
from devtools.jobs.files import fetch_checkpoint, fetch_version, upload_folder
from devtools.jobs.prepare import prepare_rows
from devtools.jobs.protocol import Messages, claim_output
from devtools.jobs.results import Made, version_of
from devtools.jobs.search.tool import search
from devtools.jobs.settings import Settings
from devtools.jobs.tool import Run, Stopped
from devtools.jobs.train.tool import train
from devtools.jobs.workspace import Workspace
from devtools.quantization import Quantize, scheme_after
from devtools.train.result.hf_directory import export_version
from shared.contracts.dataset import DatasetManifest
from shared.contracts.job import REFUSED_EXIT_CODE, STOPPED_EXIT_CODE, Checkpoint, Progress
from shared.contracts.manifest import Manifest
from shared.errors import InvalidInput, LlmosError, UnsupportedFormat
from shared.service.private_process import keep_private
from shared.storage.open import open_store

NICENESS = 10
"""Serving comes first: a job takes the processor time that is left."""


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


async def run_prepare(run: Run) -> None:
    """A job of kind `prepare`."""
    done = await prepare_rows(
        run.assignment, run.workspace, store=run.store, cache=run.cache, messages=run.messages, stop=run.stop
    )
    if not done:
        raise Stopped


async def run_evaluation(run: Run) -> None:
    """A job of kind `evaluate`."""
    await evaluate(run, Settings())  # pyright: ignore[reportCallIssue]  # from the environment


_TOOLS: dict[str, Callable[[Run], Awaitable[None]]] = {
    "run": run_user_command,
    "prepare": run_prepare,
    "train": train,
    "evaluate": run_evaluation,
    "search": search,
}


def _tool(kind: str) -> Callable[[Run], Awaitable[None]]:
    tool = _TOOLS.get(kind)
    if tool is None:
        raise UnsupportedFormat(f"this node can't run jobs of kind {kind!r}")
    return tool


async def work(folder: Path, messages: Messages) -> int:
    """Do the job in `folder`; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(128 + signal.SIGTERM)
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, on_signal)
    try:
        workspace = Workspace(folder)
        assignment = workspace.assignment
        settings = Settings()  # pyright: ignore[reportCallIssue]  # from the environment
        secret = settings.s3_secret_key.get_secret_value() if settings.s3_secret_key else None
        store = open_store(settings.store_url, access_key=settings.s3_access_key, secret_key=secret)
        tool = _tool(assignment.spec.kind)
        await tool(Run(assignment, workspace, store, settings.cache_dir or folder / "blobs", messages, stop))
    except Stopped:
        return STOPPED_EXIT_CODE
    except LlmosError as error:
        messages.send(failure=error.message)
        return REFUSED_EXIT_CODE if isinstance(error, InvalidInput) else 1
    except ValidationError as error:
        messages.send(failure=f"the job's environment or assignment can't be read: {error}")
        return 1
    except OSError as error:
        traceback.print_exc()
        messages.send(failure=_disk(error, folder))
        return 1
    except Exception as error:  # noqa: BLE001  # the boundary of the process: the traceback is in the log
        traceback.print_exc()
        messages.send(failure=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _disk(error: OSError, folder: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"no room in {folder} on this node: free some space, then resume the job"
    return f"{error.filename or folder}: {error.strerror or error}"


def main() -> int:
    """Run the job whose folder is the argument."""
    messages = claim_output()
    keep_private()  # from what it starts
    os.nice(NICENESS)
    return asyncio.run(work(Path(sys.argv[1]), messages))


if __name__ == "__main__":
    sys.exit(main())
