from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.agent.reconcile import Defer, ExistingReplica, Start, Stop, reconcile
from tests.support.factories.scheduling import GIB, deployment, replica

ONE = replica("r1", deployment(memory=2 * GIB))
TWO = replica("r2", deployment(memory=2 * GIB))
BIG = replica("big", deployment(memory=3 * GIB))


def test_a_desired_replica_that_does_not_exist_is_started():
    assert reconcile([ONE, TWO], {}, memory=4 * GIB) == [Start(ONE), Start(TWO)]


def test_an_existing_desired_replica_goes_on():
    assert reconcile([ONE], {"r1": ExistingReplica(ONE)}, memory=4 * GIB) == []


def test_an_existing_replica_that_is_not_desired_is_stopped_once():
    assert reconcile([], {"r1": ExistingReplica(ONE)}, memory=4 * GIB) == [Stop("r1")]
    assert reconcile([], {"r1": ExistingReplica(ONE, stopping=True)}, memory=4 * GIB) == []


def test_a_replica_waits_for_the_memory_of_the_one_that_it_replaces():
    (stop, defer) = reconcile([BIG], {"r1": ExistingReplica(ONE)}, memory=4 * GIB)
    assert stop == Stop("r1")
    assert isinstance(defer, Defer)
    assert defer.reason == "needs 3072.0 MiB, and 2048.0 MiB are free; waits for the end of r1"
    assert reconcile([BIG], {"r1": ExistingReplica(ONE, stopping=True)}, memory=4 * GIB) == [defer]
    assert reconcile([BIG], {}, memory=4 * GIB) == [Start(BIG)]


def test_a_replica_that_fits_starts_while_another_drains():
    assert reconcile([TWO], {"r1": ExistingReplica(ONE)}, memory=4 * GIB) == [Stop("r1"), Start(TWO)]


def test_what_never_fits_says_how_much_the_node_has():
    (defer,) = reconcile([BIG], {}, memory=GIB)
    assert defer == Defer(BIG, "needs 3072.0 MiB, and this node may use 1024.0 MiB in all")


def test_the_same_id_with_other_options_is_stopped_and_then_started_again():
    changed = replica("r1", deployment(memory=GIB))
    assert reconcile([changed], {"r1": ExistingReplica(ONE)}, memory=4 * GIB) == [
        Stop("r1"),
        Defer(changed, "waits until its former process has ended"),
    ]
    assert reconcile([changed], {}, memory=4 * GIB) == [Start(changed)]


def test_a_replica_that_drains_is_never_taken_back():
    (defer,) = reconcile([ONE], {"r1": ExistingReplica(ONE, stopping=True)}, memory=4 * GIB)
    assert isinstance(defer, Defer)


def on_gpu(key, gpu_memory):
    one = replica(key, deployment(memory=GIB))
    resources = one.resources.model_copy(update={"gpu_memory": gpu_memory})
    return one.model_copy(update={"device": "cuda", "gpu": "g", "resources": resources})


def test_a_replica_waits_for_the_gpu_memory_of_the_one_that_it_replaces():
    old, new = on_gpu("old", 3 * GIB), on_gpu("new", 2 * GIB)
    gpus = {"g": 4 * GIB}
    (stop, defer) = reconcile([new], {"old": ExistingReplica(old)}, memory=8 * GIB, gpus=gpus)
    assert stop == Stop("old")
    assert defer.reason == "needs 2048.0 MiB of GPU g, and 1024.0 MiB are free; waits for the end of old"
    assert reconcile([new], {}, memory=8 * GIB, gpus=gpus) == [Start(new)]
    both = [on_gpu("a", 2 * GIB), on_gpu("b", 2 * GIB), on_gpu("c", 2 * GIB)]
    started = [one for one in reconcile(both, {}, memory=8 * GIB, gpus=gpus) if isinstance(one, Start)]
    assert len(started) == 2


keys = st.sampled_from(["r1", "r2", "r3", "r4"])
assignments = st.builds(lambda key, memory: replica(key, deployment(memory=memory * GIB)), keys, st.integers(1, 4))
desired_lists = st.lists(assignments, max_size=4, unique_by=lambda one: one.id)
existing_maps = st.lists(st.tuples(assignments, st.booleans()), max_size=4, unique_by=lambda pair: pair[0].id).map(
    lambda pairs: {one.id: ExistingReplica(one, stopping) for one, stopping in pairs}
)


@given(desired_lists, existing_maps, st.integers(1, 12))
@settings(max_examples=80)
def test_what_is_started_fits_beside_all_that_exists(desired, existing, memory):
    instructions = reconcile(desired, existing, memory=memory * GIB)
    started = [one.assignment for one in instructions if isinstance(one, Start)]
    taken = sum(one.assignment.resources.memory for one in existing.values())
    if started:
        assert taken + sum(one.resources.memory for one in started) <= memory * GIB
    assert not {one.id for one in started} & set(existing)


@given(desired_lists, existing_maps, st.integers(1, 12))
@settings(max_examples=80)
def test_every_desired_replica_exists_or_starts_or_has_a_reason_and_all_else_stops(desired, existing, memory):
    instructions = reconcile(desired, existing, memory=memory * GIB)
    stopped = {one.replica for one in instructions if isinstance(one, Stop)}
    started = {one.assignment.id for one in instructions if isinstance(one, Start)}
    reasons = {one.assignment.id: one.reason for one in instructions if isinstance(one, Defer)}
    assert all(reasons.values())
    for one in desired:
        goes_on = one.id in existing and not existing[one.id].stopping and existing[one.id].assignment == one
        assert goes_on + (one.id in started) + (one.id in reasons) == 1
    by_id = {one.id: one for one in desired}
    for key, present in existing.items():
        assert (key in stopped) == (not present.stopping and by_id.get(key) != present.assignment)
    order = [isinstance(one, Stop) for one in instructions]
    assert order == sorted(order, reverse=True)
