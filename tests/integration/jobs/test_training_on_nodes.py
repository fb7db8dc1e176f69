"""A training on two nodes: real agents, real launchers, real processes that sum their gradients."""

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from tests.support.train.jobs import base_version, manifest_of, recipe, rows_version, weights
from tests.support.train.nano_runs import turns
from tests.support.train.running import succeeds, train

pytestmark = [pytest.mark.train, pytest.mark.timeout(900)]

TWO_NODES = "nodes = 2\n"
TWO_PROCESSES = "processes = 2\n"
DROPOUT = "\n[adapter]\ndropout = 0.1\n"


async def two_nodes(system, **settings):
    return [await system.start_agent(node, **settings) for node in ("node-a", "node-b")]


async def gang(system, text, **fields):
    return await train(system, text, node_count=2, **fields)


async def test_two_nodes_make_the_same_weights_to_the_bit_as_two_processes_of_one(system):
    await base_version(system, system.folder)
    await rows_version(system, turns(), held_out=turns(8, seed=1))
    await two_nodes(system)
    job = await gang(system, recipe(tail=TWO_NODES + DROPOUT))
    done = await succeeds(system, job)
    assert (done.attempt, done.failures, done.results) == (1, 0, ("model helper:1",))
    assert (done.progress.step, done.progress.steps) == (6, 6)
    alone = await train(system, recipe(tail=TWO_PROCESSES + DROPOUT), name="alone", threads=2)
    await succeeds(system, alone)
    assert weights(await manifest_of(system.store, "helper")) == weights(await manifest_of(system.store, "alone"))
