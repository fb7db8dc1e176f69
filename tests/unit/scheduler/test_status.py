from services.scheduler.policy.status import deployment_status, node_view
from shared.contracts.resources import Resources
from shared.contracts.scheduler import ReplicaState, ReplicaStatus
from tests.support.factories.scheduling import GIB, deployment, node, replica, runs


def said(key: str, state: ReplicaState = ReplicaState.READY) -> ReplicaStatus:
    return ReplicaStatus.EXAMPLE.model_copy(update={"id": key, "deployment": "chat", "state": state})


def test_only_replicas_of_the_desired_version_that_answer_count_as_ready():
    old, new = deployment(version=1), deployment(version=2)
    status = deployment_status(
        new,
        [runs("a", replica("r1", old), replica("r2", new), replica("r3", new))],
        {"r1": said("r1"), "r2": said("r2"), "r3": said("r3", ReplicaState.LOADING)},
        {"a": node("a")},
        (),
    )
    assert status.ready == 1
    assert [one.id for one in status.replicas] == ["r1", "r2", "r3"]


def test_a_replica_that_said_nothing_yet_is_said_to_be_starting():
    one = deployment()
    status = deployment_status(one, [runs("a", replica("r1", one))], {}, {"a": node("a")}, ())
    assert (status.replicas[0].state, status.replicas[0].message) == (
        ReplicaState.STARTING,
        "a reports nothing of it yet, or no more",
    )


def test_a_replica_on_a_node_that_is_down_says_so():
    one = deployment()
    status = deployment_status(one, [runs("a", replica("r1", one))], {}, {}, ("no nodes are up",))
    assert status.replicas[0].message == "a is down; it goes on when a returns"
    assert status.unplaced == ("no nodes are up",)


def test_replicas_of_other_deployments_are_left_out():
    one, other = deployment("chat"), deployment("code")
    status = deployment_status(one, [runs("a", replica("r1", other))], {}, {"a": node("a")}, ())
    assert status.replicas == ()


def test_a_node_shows_its_memory_and_reserved_threads_as_granted():
    one, two = deployment("one", threads=3), deployment("two")
    view = node_view(node("a"), runs("a", replica("r1", one), replica("r2", two)))
    assert view.granted == Resources(memory=2 * GIB, threads=3)
    assert view.replicas == ("r1", "r2")


def test_a_node_without_a_record_has_nothing_granted():
    assert node_view(node("a"), None).granted == Resources(memory=0, threads=0)
