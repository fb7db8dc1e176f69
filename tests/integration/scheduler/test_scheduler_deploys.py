import re

import pytest

from shared.bus.rpc import call
from shared.contracts.base import Empty
from shared.contracts.scheduler import (
    ASSIGNMENTS_BUCKET,
    DEPLOY,
    DEPLOYMENTS_BUCKET,
    LIST_DEPLOYMENTS,
    LIST_NODES,
    SHOW_DEPLOYMENT,
    UNDEPLOY,
    Deploy,
    DeploymentName,
)
from shared.errors import Conflict, InvalidInput, NoResponders, NotFound, Unavailable
from tests.support.factories.scheduling import GIB
from tests.support.harness.events import events_of
from tests.support.harness.wait import eventually


async def ask(bus, endpoint, request):
    """As a client does that waits until a scheduler leads."""

    async def answer():
        try:
            return [await call(bus, endpoint, request, timeout=5)]
        except NoResponders:
            return None

    return (await eventually(answer))[0]


async def deploy(bus, reference="smollm2:1", **options):
    return await ask(bus, DEPLOY, Deploy(reference=reference, **options))


async def ready(bus, name="smollm2"):
    return (await ask(bus, SHOW_DEPLOYMENT, DeploymentName(name=name))).ready


async def test_a_deployment_is_placed_and_becomes_ready(bus, scheduler, nodes):
    node = await nodes("node-a")
    await eventually(lambda: node.history)  # the scheduler knows the node
    status = await deploy(bus)
    assert status.unplaced == ()
    assert len(status.replicas) == 1
    await eventually(lambda: node.ids == [status.replicas[0].id])
    await eventually(lambda: ready(bus))


async def test_the_same_request_again_changes_nothing(bus, scheduler, nodes):
    await nodes("node-a")
    first = await deploy(bus)
    await eventually(lambda: ready(bus))
    revisions = [entry.revision for entry in await bus.kv(ASSIGNMENTS_BUCKET).entries()]
    again = await deploy(bus)
    assert again.deployment == first.deployment
    assert [entry.revision for entry in await bus.kv(ASSIGNMENTS_BUCKET).entries()] == revisions


async def test_what_cannot_be_placed_is_recorded_and_says_why_and_is_placed_when_a_node_comes(bus, scheduler, nodes):
    status = await deploy(bus)
    assert status.unplaced == ("no nodes are up",)
    small = await nodes("node-small", memory=GIB // 10)

    async def reason():
        (found,) = (await ask(bus, SHOW_DEPLOYMENT, DeploymentName(name="smollm2"))).unplaced
        return "GiB free: node-small has 102.3 MiB" in found

    await eventually(reason)
    assert small.ids == []
    large = await nodes("node-large", memory=8 * GIB)
    await eventually(lambda: large.ids)
    await eventually(lambda: ready(bus))


async def test_a_max_len_above_the_context_length_is_refused_and_records_nothing(bus, scheduler):
    with pytest.raises(InvalidInput, match="max_len 9000 is above the context length of smollm2:1, which is 8192"):
        await deploy(bus, max_len=9000)
    assert await bus.kv(DEPLOYMENTS_BUCKET).entries() == []


async def test_a_version_that_does_not_exist_is_not_found_and_names_what_exists(bus, scheduler):
    with pytest.raises(NotFound, match="smollm2:1, smollm2:2"):
        await deploy(bus, "smollm2:7")


async def test_what_is_no_reference_is_invalid(bus, scheduler):
    with pytest.raises(InvalidInput, match="expected 'name', 'name:3' or 'name@alias'") as caught:
        await deploy(bus, "SmolLM2")
    assert caught.value.param == "reference"


async def test_without_a_registry_deploying_says_that_it_is_down(bus, schedulers):
    async with schedulers():
        with pytest.raises(Unavailable, match="registry"):
            await deploy_when_led(bus)


async def deploy_when_led(bus):
    await ask(bus, LIST_NODES, Empty())
    await call(bus, DEPLOY, Deploy(reference="smollm2"), timeout=5)


async def test_a_new_version_rolls_without_a_gap(bus, scheduler, nodes):
    node = await nodes("node-a", memory=16 * GIB)
    old = (await deploy(bus, "smollm2:1")).replicas[0].id
    await eventually(lambda: ready(bus))
    await deploy(bus, "smollm2:2")
    await eventually(lambda: len(node.ids) == 1 and node.ids != [old])
    new = node.ids[0]
    assert node.history[-2:] == [(old, new), (new,)]
    assert await ready(bus) == 1


async def test_undeploying_takes_the_replicas_away(bus, scheduler, nodes):
    node = await nodes("node-a")
    await deploy(bus)
    await eventually(lambda: node.ids)
    await ask(bus, UNDEPLOY, DeploymentName(name="smollm2"))
    await eventually(lambda: node.ids == [])
    assert (await ask(bus, LIST_DEPLOYMENTS, Empty())).deployments == ()
    with pytest.raises(NotFound, match="no deployment 'smollm2'; deployments: none"):
        await ask(bus, UNDEPLOY, DeploymentName(name="smollm2"))


async def test_nodes_are_listed_with_what_is_granted(bus, scheduler, nodes):
    await nodes("node-a")
    await nodes("node-b")
    status = await deploy(bus, replicas=2, threads=3)

    async def granted():
        views = (await ask(bus, LIST_NODES, Empty())).nodes
        return [(view.status.id, view.granted.threads, len(view.replicas)) for view in views]

    async def spread():
        return await granted() == [("node-a", 3, 1), ("node-b", 3, 1)]

    await eventually(spread)
    (view, _) = (await ask(bus, LIST_NODES, Empty())).nodes
    assert view.granted.memory == status.deployment.resources.memory


async def test_changes_are_published_as_events(bus, scheduler, nodes):
    async def happened(*kinds: str) -> bool:
        return set(kinds) <= {event.kind for event in await events_of(bus)}

    await nodes("node-a")
    await deploy(bus)
    await eventually(lambda: happened("deployment.created", "replica.placed"))
    await ask(bus, UNDEPLOY, DeploymentName(name="smollm2"))
    await eventually(lambda: happened("deployment.removed", "replica.removed"))
    events = await events_of(bus)
    assert {event.actor for event in events} == {"scheduler-a"}
    created, removed = [event for event in events if event.record == "LLMOS_DEPLOYMENTS/smollm2"]
    assert (created.before, removed.after) == (None, None)
    assert created.after == removed.before is not None


async def test_a_deployment_that_names_no_size_gets_what_fits_the_node_with_most_room_and_says_so(
    bus, scheduler, nodes
):
    small, large = await nodes("node-small", memory=GIB // 2), await nodes("node-large", memory=2 * GIB)
    await eventually(lambda: small.history and large.history)
    status = await deploy(bus, draft_tokens=2)
    options = status.deployment.options
    assert 4 <= options.slots < 16
    assert options.max_len == 4096
    assert status.deployment.resources.memory <= 2 * GIB
    assert f"it got {options.slots} slots of 4096 tokens, which is what fits: no node has room for 16" in status.note
    await eventually(lambda: large.ids)
    again = await deploy(bus)
    assert again.deployment == status.deployment, "the same request again changes nothing"
    assert again.note == status.note
    assert (await deploy(bus, slots=2)).note == ""


async def test_a_size_that_is_named_and_does_not_fit_is_refused_with_one_that_would(bus, scheduler, nodes):
    node = await nodes("node-a", memory=GIB)
    await eventually(lambda: node.history)
    with pytest.raises(Conflict, match=r"fit on no node \(.*\); (\d+) slots of 2048 tokens would fit") as caught:
        await deploy(bus, slots=64, max_len=8192)
    found = re.search(r"(\d+) slots of 2048 tokens would fit", caught.value.message)
    assert (await deploy(bus, slots=int(found[1]), max_len=2048)).unplaced == ()
    with pytest.raises(Conflict, match="no number of slots would"):
        await deploy(bus, name="other", replicas=40, slots=2, max_len=128)
