"""The process of a job: `python -P -m devtools.jobs.run FOLDER`; with `--lacking`, what is missing for jobs here.

Exit codes: 0 done; 75 (`STOPPED_EXIT_CODE`) stopped by SIGTERM, a checkpoint is in the store; 65
(`REFUSED_EXIT_CODE`) the input was refused, and would be refused again; 1 failed. The node agent got the reason. A
second SIGTERM ends the process at once.
"""

import asyncio
import errno
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from devtools.jobs.protocol import Messages, claim_output
from devtools.jobs.settings import Settings
from devtools.jobs.tool import Run, Stopped
from devtools.jobs.tools import lacking, tool_of
from devtools.jobs.workspace import Workspace
from shared.contracts.job import LACKING_OPTION, REFUSED_EXIT_CODE, STOPPED_EXIT_CODE
from shared.errors import InvalidInput, LlmosError
from shared.panics import STOPS
from shared.service.private_process import keep_private
from shared.storage.open import open_store

NICENESS = 10
"""Serving comes first: a job takes the processor time that is left."""


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
        tool = tool_of(assignment.spec.kind)
        await tool(Run(assignment, workspace, store, (settings.cache_dir or folder) / "blobs", messages, stop))
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
    except STOPS:
        raise
    except BaseException as error:  # noqa: BLE001  # the boundary of the process: the traceback is in the log
        traceback.print_exc()
        messages.send(failure=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _disk(error: OSError, folder: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"no room in {folder} on this node: free some space, then resume the job"
    return f"{error.filename or folder}: {error.strerror or error}"


def main() -> int:
    """Run the job whose folder is the argument, or say what is missing here, by kind of job."""
    if sys.argv[1] == LACKING_OPTION:
        sys.stdout.write(json.dumps(lacking()))
        return 0
    messages = claim_output()
    keep_private()  # from what it starts
    os.nice(NICENESS)
    return asyncio.run(work(Path(sys.argv[1]), messages))


if __name__ == "__main__":
    sys.exit(main())
