"""A training on two nodes that have no loopback in common: each is in a network namespace of its own."""

import os
import subprocess
from contextlib import ExitStack, contextmanager

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
from tests.support.train.running import WAIT_S, listening, passes, processes, train

pytestmark = [pytest.mark.train, pytest.mark.timeout(900)]


@pytest.fixture
def lease_ttl() -> float:
    return 3.0  # a node that is slow for a second under load is not lost


@contextmanager
def agents(system, spaces, url: str, *, with_addresses: bool):
    with ExitStack() as stack:
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
            agent = stack.enter_context(subprocess.Popen(command, env=environment))
            stack.callback(agent.terminate)
        yield


async def test_nodes_train_together_at_the_addresses_that_they_were_given_and_listen_on_no_other(system):
    await base_version(system, system.folder)
    await rows_version(system, turns())
    with network_namespaces("node-a", "node-b") as spaces:
        async with forwarded(spaces.here, system.port) as port:
            url = f"nats://{spaces.here}:{port}"
            with agents(system, spaces, url, with_addresses=False):
                job = await train(system, recipe(100_000, 200, tail="nodes = 2\n"), node_count=2)

                async def waits():
                    return f"set {ADDRESS_VARIABLE} on each" in (await system.job(job.id)).message

                await eventually(waits, timeout=WAIT_S)
            with agents(system, spaces, url, with_addresses=True):
                await passes(system, job, 1)
                assert listening(processes(job, "devtools.jobs.run")) == set(spaces.addresses.values())
                await system.change(job.id, Desired.CANCEL)
                await system.reaches(job.id, JobState.CANCELLED, timeout=WAIT_S)
