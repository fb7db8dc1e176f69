"""What this node lacks for jobs: the job command itself says it, since it may be another Python than the agent's."""

import asyncio
import os
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import suppress
from typing import get_args

import structlog
from pydantic import TypeAdapter, ValidationError

from services.inference.agent.job_process import job_environment
from shared.contracts.job import LACKING_OPTION, JobKind
from shared.service.tether import tethered

_log = structlog.get_logger("llmos.agent")

_TIMEOUT_S = 60.0
_LACKING = TypeAdapter(dict[JobKind, str])


async def find_lacking(argv: Sequence[str]) -> dict[JobKind, str]:
    """Kinds of jobs that this node can't run, and what is missing for each.

    Args:
        argv: The job command; with `LACKING_OPTION` it prints its answer.
    """
    try:
        lacking = await _ask(argv)
    except OSError as error:  # TimeoutError is one
        said = str(error) or f"it did not answer within {_TIMEOUT_S:.0f} s"
        reason = f"LLMOS_INFERENCE_JOB_COMMAND does not work: {' '.join(argv)}: {said.strip().splitlines()[-1]}"
        lacking = dict.fromkeys(get_args(JobKind), reason)
    for kind, reason in lacking.items():
        _log.info("jobs.not_possible", kind=kind, reason=reason)
    return lacking


async def _ask(argv: Sequence[str]) -> dict[JobKind, str]:
    process = await asyncio.create_subprocess_exec(
        *tethered(*argv, LACKING_OPTION),
        env=job_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, errors = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    if process.returncode != 0:
        raise OSError(errors.decode(errors="replace").strip() or f"it ended with {process.returncode}")
    try:
        return _LACKING.validate_json(out)
    except ValidationError:
        raise OSError(f"expected a JSON object of kinds of jobs and reasons, it printed {out[:80]!r}") from None
