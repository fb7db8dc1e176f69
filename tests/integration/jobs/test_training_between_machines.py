"""A training on two nodes that have no loopback in common: each is in a network namespace of its own."""

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from services.scheduler.policy.gang import ADDRESS_VARIABLE
from shared.contracts.job import Desired, JobState
from shared.service.python import python_module
from tests.support.factories.scheduling import GIB
from tests.support.harness.forwarding import forwarded
from tests.support.harness.network_namespaces import network_namespaces
from tests.support.harness.wait import eventually
from tests.support.train.jobs import base_version, recipe, rows_version
from tests.support.train.nano_runs import turns
from tests.support.train.running import WAIT_S, passes, train

pytestmark = [pytest.mark.train, pytest.mark.timeout(900)]


@asynccontextmanager
async def agents(system, spaces, url: str, *, with_addresses: bool):
    started = []
    try:
        for name, address in spaces.addresses.items():
            environment = {
                **os.environ,
                "LLMOS_NATS_URL": url,
                "LLMOS_INFERENCE_NODE_ID": name,
                "LLMOS_INFERENCE_MEMORY": str(4 * GIB),
                "LLMOS_INFERENCE_JOB_DIR": str(system.folder / f"jobs-{name}"),
                **({ADDRESS_VARIABLE: address} if with_addresses else {}),
            }
            command = spaces.command(name, *python_module("services.inference"))
            started.append(await asyncio.create_subprocess_exec(*command, env=environment))
        yield
    finally:
        for agent in started:
            agent.terminate()
        await asyncio.gather(*(agent.wait() for agent in started))  # this loop forwards their connections meanwhile


LISTENERS = """
import psutil
for one in psutil.net_connections("tcp"):
    if one.status == psutil.CONN_LISTEN:
        print(one.laddr.ip)
"""


async def listening(spaces, name: str) -> set[str]:
    """All addresses on which a program waits for connections in a namespace; psutil sees those of its own only."""
    command = spaces.command(name, sys.executable, "-c", LISTENERS)
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return set(out.decode().split())


async def test_nodes_train_together_at_the_addresses_that_they_were_given_and_listen_on_no_other(system):
    await base_version(system, system.folder)
    await rows_version(system, turns())
    with network_namespaces("node-a", "node-b") as spaces:
        async with forwarded(spaces.here, system.port) as port:
            url = f"nats://{spaces.here}:{port}"
            async with agents(system, spaces, url, with_addresses=False):
                job = await train(system, recipe(100_000, 200, tail="nodes = 2\n"), node_count=2)

                async def waits():
                    return f"set {ADDRESS_VARIABLE} on each" in (await system.job(job.id)).message

                await eventually(waits, timeout=WAIT_S)
            async with agents(system, spaces, url, with_addresses=True):
                await passes(system, job, 1)
                for name, address in spaces.addresses.items():
                    assert await listening(spaces, name) == {address}
                await system.change(job.id, Desired.CANCEL)
                await system.reaches(job.id, JobState.CANCELLED, timeout=WAIT_S)
