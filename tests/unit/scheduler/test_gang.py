"""Which nodes a job gets together, and why it gets none."""

import pytest

from services.scheduler.policy.fit import FreeCapacity
from services.scheduler.policy.gang import choose, need_of, why_none
from shared.contracts.resources import Resources
from shared.contracts.scheduler import NodeStatus
from tests.support.factories.jobs import job_of
from tests.support.factories.scheduling import GIB, node

NEED = Resources(memory=2 * GIB, threads=2)


def at(name: str, address: str, *, memory: int = 4 * GIB, loopback: str = "", threads: int = 4) -> NodeStatus:
    """A node whose trainings meet at an address."""
    update = {"training_address": address, "loopback": loopback, "host": f"host-{name}"}
    return node(name, memory=memory, threads=threads).model_copy(update=update)


def free_of(*nodes: NodeStatus) -> dict[str, FreeCapacity]:
    return {one.id: FreeCapacity.of(one) for one in nodes}


def chosen(count: int, *nodes: NodeStatus, need: Resources = NEED) -> tuple[str, ...]:
    return tuple(one.node for one in choose(need, count, free_of(*nodes), {one.id: one for one in nodes}))


def reason(count: int, *nodes: NodeStatus, need: Resources = NEED) -> str:
    return why_none(need, count, free_of(*nodes), {one.id: one for one in nodes})


def test_a_job_takes_nothing_of_a_gpu():
    resources = Resources(memory=GIB, threads=1, gpu_memory=8 * GIB)
    job = job_of().model_copy(update={"resources": resources})
    assert need_of(job) == Resources(memory=GIB, threads=1)


def test_one_node_is_the_one_with_the_most_memory_free():
    assert chosen(1, at("a", "127.0.0.1"), at("b", "127.0.0.1", memory=6 * GIB)) == ("b",)


def test_the_emptiest_nodes_of_a_network_are_taken_the_emptiest_first():
    nodes = [at(name, f"10.0.0.{size}", memory=size * GIB) for name, size in (("a", 3), ("b", 5), ("c", 4))]
    assert chosen(2, *nodes) == ("b", "c")


def test_nodes_on_loopback_of_different_machines_do_not_train_together():
    apart = at("a", "127.0.0.1", loopback="boot-1/net"), at("b", "127.0.0.1", loopback="boot-2/net")
    assert chosen(2, *apart) == ()
    assert "needs 2 nodes that reach one another, and these do not: b (127.0.0.1 on host-b)" in reason(2, *apart)
    assert "set LLMOS_TRAINING_ADDRESS on each of them" in reason(2, *apart)


def test_nodes_on_loopback_of_one_machine_train_together():
    assert set(chosen(2, at("a", "127.0.0.1", loopback="boot/net"), at("b", "::1", loopback="boot/net"))) == {
        "a",
        "b",
    }


def test_a_node_that_cannot_name_its_loopback_is_alone():
    assert chosen(2, at("a", "127.0.0.1"), at("b", "127.0.0.1")) == ()


def test_a_node_with_an_address_and_one_on_loopback_do_not_reach_one_another():
    assert chosen(2, at("a", "10.0.0.1"), at("b", "127.0.0.1", loopback="boot/net")) == ()


def test_the_group_with_the_emptiest_nodes_is_taken():
    here = [at(name, "127.0.0.1", loopback="boot/net", memory=8 * GIB) for name in ("a", "b")]
    there = [at(name, f"10.0.0.{number}", memory=4 * GIB) for number, name in enumerate(("c", "d"))]
    assert set(chosen(2, *there, *here)) == {"a", "b"}


def test_a_node_without_the_memory_or_the_threads_is_left_out():
    full, busy = at("a", "10.0.0.1", memory=GIB), at("b", "10.0.0.2", threads=1)
    assert chosen(2, full, busy, at("c", "10.0.0.3"), at("d", "10.0.0.4")) == ("d", "c")
    assert chosen(3, full, busy, at("c", "10.0.0.3"), at("d", "10.0.0.4")) == ()


def test_no_node_is_taken_where_there_are_none():
    assert chosen(1) == () == chosen(2)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([], "needs 2 nodes, 0 are up"),
        ([at("a", "10.0.0.1")], "needs 2 nodes, 1 is up"),
        (
            [at("a", "10.0.0.1"), at("b", "10.0.0.2", memory=GIB)],
            "free, 1 has: a has 4.0 GiB and 4 threads, b has 1.0 GiB and 4 threads",
        ),
        (
            [at("a", "10.0.0.1", threads=1), at("b", "10.0.0.2", threads=1)],
            "free, none has: b has 4.0 GiB and 1 thread, a has 4.0 GiB and 1 thread",
        ),
    ],
)
def test_the_reason_says_what_is_missing(nodes, said):
    assert reason(2, *nodes).removeprefix("needs 2 nodes with 2.0 GiB and 2 threads ") == said


def test_the_reason_names_eight_nodes_at_most():
    nodes = [at(f"n{number:02}", f"10.0.0.{number}", memory=GIB) for number in range(20)]
    assert reason(2, *nodes).count(" has ") == 8


def test_the_reason_speaks_of_threads_only_where_they_are_asked_for():
    said = reason(2, at("a", "10.0.0.1"), at("b", "10.0.0.2", memory=GIB), need=Resources(memory=2 * GIB, threads=0))
    assert said == "needs 2 nodes with 2.0 GiB free, 1 has: a has 4.0 GiB, b has 1.0 GiB"
