from collections.abc import Iterable

from services.scheduler.policy.placement import Placement, new_replica_id, place
from shared.contracts.scheduler import Deployment, NodeAssignment, NodeStatus
from tests.support.factories.scheduling import GIB, MIB, deployment, node, replica, runs


def placed(
    deployments: Iterable[Deployment],
    nodes: Iterable[NodeStatus],
    assignments: Iterable[NodeAssignment] = (),
    *,
    ready: Iterable[str] = (),
    grace_over: bool = True,
) -> Placement:
    return place(deployments, nodes, assignments, ready=set(ready), token="t", grace_over=grace_over)


def where(placement: Placement) -> dict[str, list[str]]:
    """Deployment and version of what each node runs."""
    return {
        name: [f"{one.deployment}:{one.version}" for one in record.replicas]
        for name, record in placement.assignments.items()
    }


def ids(placement: Placement, name: str) -> list[str]:
    return [one.id for one in placement.assignments[name].replicas]


def test_one_replica_goes_to_the_only_node():
    result = placed([deployment()], [node("a")])
    assert where(result) == {"a": ["chat:1"]}
    assert result.unplaced == {}


def test_every_node_that_is_up_gets_a_record_even_an_empty_one():
    assert where(placed([], [node("a"), node("b")])) == {"a": [], "b": []}


def test_replicas_of_one_deployment_spread_over_nodes():
    result = placed([deployment(replicas=3)], [node("a"), node("b"), node("c")])
    assert where(result) == {"a": ["chat:1"], "b": ["chat:1"], "c": ["chat:1"]}


def test_the_tightest_fit_in_memory_wins():
    result = placed([deployment(memory=GIB)], [node("a", memory=8 * GIB), node("b", memory=2 * GIB)])
    assert where(result) == {"a": [], "b": ["chat:1"]}


def test_a_sharing_replica_is_granted_all_threads_of_its_node():
    result = placed([deployment("one"), deployment("two")], [node("a", threads=6)])
    assert [one.resources.threads for one in result.assignments["a"].replicas] == [6, 6]
    assert not any(one.threads_reserved for one in result.assignments["a"].replicas)


def test_reserved_threads_are_never_given_twice():
    result = placed([deployment("one", threads=3, age=1), deployment("two", threads=2)], [node("a", threads=4)])
    assert where(result) == {"a": ["one:1"]}
    assert result.unplaced == {"two": ("no node has 2 threads free: a has 1",)}


def test_what_lacks_memory_says_how_much_each_node_has():
    result = placed(
        [deployment(memory=int(3.2 * GIB))],
        [node("node-a", memory=1127 * MIB), node("node-b", memory=512 * MIB)],
    )
    (reason,) = result.unplaced["chat"]
    assert reason.startswith("no node has 3.2 GiB free: node-a has 1.1 GiB, node-b has 0.5 GiB")
    assert "fewer slots or a smaller max_len" in reason


def test_a_need_that_fits_an_empty_node_is_not_asked_to_shrink():
    old = deployment("old", memory=3 * GIB, age=1)
    result = placed([old, deployment(memory=2 * GIB)], [node("a")])
    assert result.unplaced == {"chat": ("no node has 2.0 GiB free: a has 1.0 GiB",)}


def test_memory_that_is_needed_never_reads_like_what_there_is():
    result = placed([deployment(memory=GIB + 1)], [node("a", memory=GIB)])
    assert result.unplaced["chat"][0].startswith("no node has 1.1 GiB free: a has 1.0 GiB")


def test_memory_and_threads_that_lack_on_different_nodes_are_both_named():
    result = placed(
        [deployment(memory=2 * GIB, threads=8)], [node("a", memory=GIB, threads=8), node("b", memory=4 * GIB)]
    )
    assert result.unplaced["chat"] == (
        "no node has 2.0 GiB and 8 threads free: b has 4.0 GiB and 4 threads, a has 1.0 GiB and 8 threads",
    )


def test_too_many_threads_for_any_node_says_so():
    result = placed([deployment(threads=8)], [node("a", threads=2)])
    assert result.unplaced["chat"] == (
        "no node has 8 threads free: a has 2; none has that many in all, so choose fewer threads",
    )


def test_without_nodes_every_replica_says_so():
    assert placed([deployment(replicas=2)], []).unplaced == {"chat": ("no nodes are up",) * 2}


def test_a_long_list_of_nodes_is_cut_and_says_so():
    nodes = [node(f"n{number:02}", memory=number) for number in range(12)]
    (reason,) = placed([deployment()], nodes).unplaced["chat"]
    assert ", and 4 more nodes have less" in reason


def test_older_deployments_are_served_first():
    result = placed(
        [deployment("a-new", memory=3 * GIB), deployment("z-old", memory=3 * GIB, age=9)], [node("a", memory=4 * GIB)]
    )
    assert where(result) == {"a": ["z-old:1"]}


def test_what_stands_is_not_moved_to_spread_better():
    one = deployment(replicas=2)
    before = runs("a", replica("r1", one), replica("r2", one))
    result = placed([one], [node("a"), node("b")], [before], ready=["r1", "r2"])
    assert ids(result, "a") == ["r1", "r2"]
    assert ids(result, "b") == []


def test_an_undeployed_replica_is_removed_also_from_a_node_that_is_down():
    old = deployment("old")
    result = placed([], [node("a")], [runs("a", replica("r1", old)), runs("b", replica("r2", old))])
    assert where(result) == {"a": [], "b": []}


def test_fewer_replicas_end_the_silent_ones_first():
    one = deployment(replicas=1)
    before = [runs("a", replica("r1", one)), runs("b", replica("r2", one))]
    result = placed([one], [node("a"), node("b")], before, ready=["r2"])
    assert (ids(result, "a"), ids(result, "b")) == ([], ["r2"])


def test_a_lost_node_loses_its_replica_to_one_where_it_fits():
    one = deployment()
    result = placed([one], [node("b")], [runs("a", replica("r1", one))])
    assert where(result) == {"a": [], "b": ["chat:1"]}
    assert ids(result, "b") != ["r1"]


def test_a_lost_node_keeps_its_replica_when_it_fits_nowhere_else_and_the_reason_names_it():
    one = deployment(memory=2 * GIB)
    result = placed([one], [node("b", memory=GIB)], [runs("a", replica("r1", one))])
    assert ids(result, "a") == ["r1"]
    assert result.unplaced["chat"][0].endswith("; down: a")


def test_a_lost_node_goes_on_when_it_returns():
    one = deployment()
    away = placed([one], [], [runs("a", replica("r1", one))])
    back = placed([one], [node("a")], away.assignments.values())
    assert ids(back, "a") == ["r1"]
    assert back.unplaced == {}


def test_a_lost_node_that_returns_after_its_replica_moved_runs_nothing():
    one = deployment()
    moved = placed([one], [node("b")], [runs("a", replica("r1", one))])
    back = placed([one], [node("a"), node("b")], moved.assignments.values())
    assert where(back) == {"a": [], "b": ["chat:1"]}


def test_a_node_that_was_not_heard_yet_counts_as_standing():
    one = deployment()
    result = placed([one], [node("b")], [runs("a", replica("r1", one))], grace_over=False)
    assert ids(result, "a") == ["r1"]
    assert where(result)["b"] == []


def test_a_changed_version_on_a_lost_node_is_forgotten():
    result = placed([deployment(version=2)], [], [runs("a", replica("r1", deployment(version=1)))])
    assert where(result) == {"a": []}
    assert result.unplaced["chat"] == ("no nodes are up",)


def test_a_node_that_came_back_smaller_loses_what_no_longer_fits():
    big = deployment(memory=3 * GIB)
    result = placed([big], [node("a", memory=2 * GIB), node("b")], [runs("a", replica("r1", big))])
    assert where(result) == {"a": [], "b": ["chat:1"]}


def test_a_replica_granted_more_threads_than_its_node_has_now_is_placed_anew():
    one = deployment()
    result = placed([one], [node("a", threads=2)], [runs("a", replica("r1", one, threads=4))])
    assert [(r.id != "r1", r.resources.threads) for r in result.assignments["a"].replicas] == [(True, 2)]


def test_the_new_version_starts_beside_the_old_one():
    old, new = deployment(version=1), deployment(version=2)
    result = placed([new], [node("a")], [runs("a", replica("r1", old))], ready=["r1"])
    assert where(result) == {"a": ["chat:1", "chat:2"]}
    assert result.unplaced == {}


def test_the_old_version_goes_when_the_new_one_is_ready():
    old, new = deployment(version=1), deployment(version=2)
    before = runs("a", replica("r1", old), replica("r2", new))
    assert ids(placed([new], [node("a")], [before], ready=["r1"]), "a") == ["r1", "r2"]
    assert ids(placed([new], [node("a")], [before], ready=["r1", "r2"]), "a") == ["r2"]


def test_several_replicas_roll_one_at_a_time():
    old, new = deployment(version=1, replicas=3), deployment(version=2, replicas=3)
    assignments = [runs("a", *(replica(f"old{n}", old) for n in range(3)))]
    nodes = [node("a", memory=8 * GIB)]
    counts = []
    for _ in range(12):
        ready = [one.id for record in assignments for one in record.replicas]
        result = placed([new], nodes, assignments, ready=ready)
        assignments = list(result.assignments.values())
        versions = [one.version for one in assignments[0].replicas]
        counts.append((versions.count(1), versions.count(2)))
        assert result.unplaced == {}
    assert all(3 <= old_ones + new_ones <= 4 for old_ones, new_ones in counts)
    assert counts[:2] == [(3, 1), (2, 2)]
    assert counts[-1] == (0, 3)


def test_a_new_version_that_does_not_start_leaves_the_old_ones_alone():
    old, new = deployment(version=1, replicas=2), deployment(version=2, replicas=2)
    assignments = [runs("a", replica("r1", old), replica("r2", old))]
    for _ in range(3):
        result = placed([new], [node("a")], assignments, ready=["r1", "r2"])
        assignments = list(result.assignments.values())
    assert where(result) == {"a": ["chat:1", "chat:1", "chat:2"]}


def test_where_both_do_not_fit_the_old_one_gives_way():
    old, new = deployment(version=1, memory=3 * GIB), deployment(version=2, memory=3 * GIB)
    result = placed([new], [node("a")], [runs("a", replica("r1", old))], ready=["r1"])
    assert where(result) == {"a": ["chat:2"]}
    assert result.unplaced == {}


def test_giving_way_happens_one_at_a_time_too():
    old, new = deployment(version=1, memory=2 * GIB, replicas=2), deployment(version=2, memory=2 * GIB, replicas=2)
    assignments = [runs("a", replica("r1", old), replica("r2", old))]
    for _ in range(3):
        result = placed([new], [node("a")], assignments, ready=["r1", "r2"])
        assignments = list(result.assignments.values())
    assert sorted(where(result)["a"]) == ["chat:1", "chat:2"]
    assert result.unplaced == {}


def test_a_new_version_that_fits_nowhere_leaves_the_old_one_and_says_why():
    old, new = deployment(version=1), deployment(version=2, memory=9 * GIB)
    result = placed([new], [node("a")], [runs("a", replica("r1", old))], ready=["r1"])
    assert ids(result, "a") == ["r1"]
    (reason,) = result.unplaced["chat"]
    assert reason.startswith("no node has 9.0 GiB free: a has 3.0 GiB")
    assert reason.endswith("; what ran before goes on (smollm2:1)")


def test_changed_slots_replace_a_replica_like_a_changed_version():
    old, new = deployment(slots=8), deployment(slots=16)
    result = placed([new], [node("a")], [runs("a", replica("r1", old))], ready=["r1"])
    assert [one.options.slots for one in result.assignments["a"].replicas] == [8, 16]


def test_a_changed_number_of_replicas_replaces_none():
    result = placed([deployment(replicas=2)], [node("a")], [runs("a", replica("r1", deployment(replicas=1)))])
    assert ids(result, "a")[0] == "r1"
    assert len(ids(result, "a")) == 2


def test_replica_ids_are_free_of_dots_and_differ_within_a_pass():
    first = new_replica_id(deployment("my.model"), "t", set())
    second = new_replica_id(deployment("my.model"), "t", {first})
    assert first != second
    assert first.startswith("my-model-1-")
    assert new_replica_id(deployment("my.model"), "t", set()) == first
