"""Trainings as jobs: started, followed and looked at from outside."""

import psutil

from shared.contracts.job import Checkpoint, Job, JobState
from shared.contracts.manifest import Kind
from tests.support.harness.wait import eventually

WAIT_S = 300.0


async def train(system, text: str, name: str = "helper", **fields) -> Job:
    """A training of the versions `tiny` and `rows`."""
    given = {"base": "tiny", "datasets": ("rows",), "result": Kind.MODEL, "result_name": name, "threads": 1, **fields}
    return await system.create(kind="train", recipe=text, **given)


async def succeeds(system, job: Job) -> Job:
    """The record, when the job has succeeded."""
    return await system.reaches(job.id, JobState.SUCCEEDED, timeout=WAIT_S)


async def passes(system, job: Job, step: int, *nodes: str) -> Job:
    """The record, when the job runs and has passed a step; on these nodes, if they are named."""

    async def passed():
        record = await system.job(job.id)
        assert not record.state.finished, record.message
        there = record.state is JobState.RUNNING and record.progress.step >= step
        return [record] if there and (not nodes or record.nodes == nodes) else None

    return (await eventually(passed, timeout=WAIT_S))[0]


async def stored(system, job: Job) -> Checkpoint:
    """The first checkpoint of the job in the store."""

    async def there():
        return (await system.job(job.id)).checkpoint

    return await eventually(there, timeout=WAIT_S)


async def begins(system, job: Job) -> list[int]:
    """The steps that attempts began at."""
    return [int(line.rsplit(" ", 1)[1]) for line in await system.log(job.id) if ", from step " in line]


def processes(job: Job, word: str) -> list[psutil.Process]:
    """The living processes of a job whose command has `word`."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if word in command and any(job.id in part for part in command):
                found.append(process)
        except psutil.Error:
            continue
    return found


def listening(found: list[psutil.Process]) -> set[str]:
    """The addresses on which they and their children wait for connections."""
    tree = {one for process in found for one in (process, *process.children(recursive=True))}
    return {
        connection.laddr.ip
        for process in tree
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
