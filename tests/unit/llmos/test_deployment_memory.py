from llmos.cli.deployments import _memory
from shared.contracts.resources import Resources
from shared.contracts.scheduler import DeploymentStatus, ReplicaStatus
from tests.support.factories.scheduling import GIB, deployment, with_options


def status(*used: int, device: str = "cpu") -> DeploymentStatus:
    replicas = tuple(ReplicaStatus.EXAMPLE.model_copy(update={"memory": each, "device": device}) for each in used)
    on_gpu = Resources(memory=2 * GIB, threads=0, gpu_memory=6 * GIB)
    record = with_options(deployment(memory=3 * GIB), device="auto").model_copy(update={"gpu_resources": on_gpu})
    return DeploymentStatus(deployment=record, ready=len(used), replicas=replicas)


def test_the_fullest_replica_is_shown_beside_the_grant():
    assert _memory(status()) == "3.0 GiB"
    assert _memory(status(GIB // 2, GIB)) == "1.0 GiB of 3.0 GiB"


def test_on_a_gpu_both_kinds_of_memory_are_shown():
    assert _memory(status(GIB, device="cuda")) == "1.0 GiB of 2.0 GiB, 6.0 GiB of a GPU"
