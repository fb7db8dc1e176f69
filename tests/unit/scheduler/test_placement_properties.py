"""What holds for every placement, for any desired state and any assignments."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.placement import Placement, place, serves
from shared.contracts.scheduler import Deployment, NodeAssignment, NodeStatus
from tests.support.factories.scheduling import GIB, deployment, node, replica

thorough = settings(max_examples=60)

NAMES = ("chat", "code", "tiny")
NODES = ("a", "b", "c")

desired_deployments = st.fixed_dictionaries(
    {},
    optional={
        name: st.builds(
            deployment,
            st.just(name),
            replicas=st.integers(1, 4),
            memory=st.integers(1, 5).map(lambda n: n * GIB),
            threads=st.integers(0, 5),
            version=st.integers(1, 2),
            age=st.integers(0, 3),
        )
        for name in NAMES
    },
).map(lambda found: list(found.values()))

up_nodes = st.fixed_dictionaries(
    {},
    optional={
        name: st.builds(
            node, st.just(name), memory=st.integers(0, 8).map(lambda n: n * GIB), threads=st.integers(0, 8)
        )
        for name in NODES
    },
).map(lambda found: list(found.values()))


@st.composite
def standing(draw: st.DrawFn) -> list[NodeAssignment]:
    """Whatever an earlier, different placement may have left, also more than nodes have now."""
    records = {name: [] for name in draw(st.sets(st.sampled_from(NODES)))}
    for name, held in records.items():
        for number in range(draw(st.integers(0, 3))):
            of = deployment(
                draw(st.sampled_from((*NAMES, "gone"))),
                memory=draw(st.integers(1, 5)) * GIB,
                threads=draw(st.integers(0, 5)),
                version=draw(st.integers(1, 2)),
            )
            held.append(replica(f"{name}{number}", of, threads=draw(st.integers(1, 8))))
    return [NodeAssignment(node=name, replicas=tuple(held)) for name, held in records.items()]


worlds = st.fixed_dictionaries(
    {
        "deployments": desired_deployments,
        "nodes": up_nodes,
        "assignments": standing(),
        "ready": st.sets(st.sampled_from([f"{name}{number}" for name in NODES for number in range(3)])),
        "grace_over": st.booleans(),
    }
)


def result_of(world: dict, **changed) -> Placement:
    return place(**{**world, "token": "t", **changed})


def all_ids(placement: Placement) -> list[str]:
    return [one.id for record in placement.assignments.values() for one in record.replicas]


@given(worlds)
@thorough
def test_no_node_is_given_more_than_it_has(world):
    placement = result_of(world)
    for status in world["nodes"]:
        replicas = placement.assignments[status.id].replicas
        assert sum(one.resources.memory for one in replicas) <= status.capacity.memory
        assert sum(one.resources.threads for one in replicas if one.threads_reserved) <= status.capacity.threads
        assert all(1 <= one.resources.threads <= status.capacity.threads for one in replicas)


@given(worlds)
@thorough
def test_every_desired_replica_stands_or_is_being_rolled_or_has_a_reason(world):
    placement = result_of(world)
    up = {status.id for status in world["nodes"]}
    for one in world["deployments"]:
        standing_now = [
            found
            for name, record in placement.assignments.items()
            for found in record.replicas
            if found.deployment == one.name and (name in up or not world["grace_over"])
        ]
        current = sum(serves(found, one) for found in standing_now)
        reasons = placement.unplaced.get(one.name, ())
        assert all(reasons)
        assert current + len(reasons) <= one.replicas
        assert len(standing_now) + len(reasons) >= one.replicas
        assert len(standing_now) <= one.replicas + max(1, count_before(world, one) - one.replicas)


def count_before(world: dict, one: Deployment) -> int:
    return sum(found.deployment == one.name for record in world["assignments"] for found in record.replicas)


@given(worlds)
@thorough
def test_nothing_runs_that_nobody_wants_and_no_id_twice(world):
    placement = result_of(world)
    names = {one.name for one in world["deployments"]}
    assert all(one.deployment in names for record in placement.assignments.values() for one in record.replicas)
    assert max(Counter(all_ids(placement)).values(), default=1) == 1


@given(worlds)
@thorough
def test_no_replica_changes_its_node_or_its_terms(world):
    placement = result_of(world)
    before = {one.id: (record.node, one) for record in world["assignments"] for one in record.replicas}
    for name, record in placement.assignments.items():
        for one in record.replicas:
            assert one.id not in before or before[one.id] == (name, one)


@given(worlds, st.randoms(use_true_random=False))
@thorough
def test_the_order_in_which_things_are_given_does_not_matter(world, random):
    shuffled = {key: random.sample(world[key], len(world[key])) for key in ("deployments", "nodes", "assignments")}
    assert result_of(world) == result_of(world, **shuffled)


@given(worlds)
@thorough
def test_placing_again_without_news_changes_nothing(world):
    first = result_of(world)
    second = result_of(world, assignments=list(first.assignments.values()), token="other")
    assert second.assignments == first.assignments


@given(worlds)
@settings(max_examples=30)
def test_when_all_replicas_become_ready_it_settles_and_what_remains_unplaced_fits_nowhere(world):
    assignments: list[NodeAssignment] = world["assignments"]
    for step in range(40):
        ready = {one.id for record in assignments for one in record.replicas}
        placement = result_of(world, assignments=assignments, ready=ready, token=str(step))
        after = list(placement.assignments.values())
        if {record.node: record for record in after} == {record.node: record for record in assignments}:
            break
        assignments = after
    else:
        raise AssertionError("it never settles")
    for one in world["deployments"]:
        current = sum(
            serves(found, one)
            for name, record in placement.assignments.items()
            for found in record.replicas
            if name in {status.id for status in world["nodes"]} or not world["grace_over"]
        )
        assert current + len(placement.unplaced.get(one.name, ())) == one.replicas


@given(worlds)
@thorough
def test_a_reason_is_only_given_when_it_fits_on_no_node(world):
    placement = result_of(world)
    for one in world["deployments"]:
        if one.name not in placement.unplaced:
            continue
        assert not any(fits_on(status, placement, one) for status in world["nodes"])


def fits_on(status: NodeStatus, placement: Placement, one: Deployment) -> bool:
    replicas = placement.assignments[status.id].replicas
    memory = status.capacity.memory - sum(found.resources.memory for found in replicas)
    threads = status.capacity.threads - sum(found.resources.threads for found in replicas if found.threads_reserved)
    return memory >= one.resources.memory and (
        threads >= one.resources.threads if one.resources.threads else status.capacity.threads > 0
    )
