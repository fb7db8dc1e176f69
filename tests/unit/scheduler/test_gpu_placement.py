"""Deployments that ask for a GPU, among nodes with and without."""

import pytest

from services.scheduler.policy.placement import place, serves
from services.scheduler.policy.status import node_view
from shared.contracts.resources import Resources
from shared.contracts.scheduler import Deployment, Gpu, NodeStatus
from tests.support.factories.scheduling import GIB, deployment, node, runs, with_options


def wants(device: str, *, gpu_memory: int = 6 * GIB, **more: int) -> Deployment:
    on_gpu = Resources(memory=GIB, threads=0, gpu_memory=gpu_memory)
    return with_options(deployment(**more), device=device).model_copy(update={"gpu_resources": on_gpu})


def with_gpus(name: str, *sizes: int) -> NodeStatus:
    gpus = tuple(Gpu(id=f"{name}-gpu-{index}", memory=size * GIB) for index, size in enumerate(sizes))
    return node(name).model_copy(update={"gpus": gpus})


def placed(desired: Deployment, *nodes: NodeStatus):
    placement = place([desired], nodes, [], ready=set(), token="t")
    replicas = [replica for record in placement.assignments.values() for replica in record.replicas]
    return replicas, placement.unplaced


def test_auto_takes_a_gpu_where_it_fits():
    replicas, unplaced = placed(wants("auto"), node("a"), with_gpus("b", 8))
    assert [(one.device, one.gpu, one.resources.gpu_memory) for one in replicas] == [("cuda", "b-gpu-0", 6 * GIB)]
    assert not unplaced


def test_auto_runs_on_a_cpu_where_it_fits_on_no_gpu():
    replicas, unplaced = placed(wants("auto"), node("a"), with_gpus("b", 4))
    assert [(one.device, one.gpu, one.resources.gpu_memory) for one in replicas] == [("cpu", "", 0)]
    assert not unplaced


def test_cpu_leaves_gpus_alone():
    desired = deployment()
    (replica,), _ = placed(desired, with_gpus("b", 8))
    assert (replica.device, replica.gpu) == ("cpu", "")


def test_the_tightest_gpu_of_a_node_is_taken_and_none_is_given_twice():
    replicas, unplaced = placed(wants("cuda", replicas=3), with_gpus("b", 16, 8))
    assert sorted(one.gpu for one in replicas) == ["b-gpu-0", "b-gpu-0", "b-gpu-1"]
    assert not unplaced
    replicas, unplaced = placed(wants("cuda", replicas=4), with_gpus("b", 16, 8))
    assert len(replicas) == 3
    assert unplaced == {"chat": ("no node has a GPU with 6.0 GiB free: b has 4.0 GiB",)}


def test_cuda_without_a_gpu_says_so():
    replicas, unplaced = placed(wants("cuda"), node("a"))
    assert not replicas
    (reason,) = unplaced["chat"]
    assert reason.startswith("no node has a GPU that ONNX Runtime can use; deploy with --device cpu")


def test_a_gpu_too_small_for_one_replica_says_what_to_change():
    _, unplaced = placed(wants("cuda"), with_gpus("b", 4))
    (reason,) = unplaced["chat"]
    assert reason.endswith("none has that much in all, so choose fewer slots or a smaller max_len")


def test_a_replica_whose_gpu_is_gone_is_placed_anew():
    desired = wants("cuda")
    (replica,), _ = placed(desired, with_gpus("b", 8))
    placement = place([desired], [with_gpus("b", 8)], [runs("b", replica)], ready={replica.id}, token="u")
    assert placement.assignments["b"].replicas == (replica,)
    other = with_gpus("b", 8).model_copy(update={"gpus": (Gpu(id="another", memory=8 * GIB),)})
    placement = place([desired], [other], [runs("b", replica)], ready={replica.id}, token="u")
    (moved,) = placement.assignments["b"].replicas
    assert (moved.gpu, moved.id != replica.id) == ("another", True)


def test_a_standing_replica_of_auto_serves_on_either_device_and_one_of_cuda_on_a_gpu_alone():
    (on_gpu,), _ = placed(wants("auto"), with_gpus("b", 8))
    (on_cpu,), _ = placed(wants("auto"), node("a"))
    assert serves(on_gpu, wants("auto"))
    assert serves(on_cpu, wants("auto"))
    assert serves(on_gpu, wants("cuda"))
    assert not serves(on_cpu, wants("cuda"))
    assert not serves(on_gpu, wants("cpu"))


@pytest.mark.parametrize("change", [{"prefix_cache": 1 << 20}, {"draft_tokens": 3}], ids=str)
def test_a_change_that_a_replica_reads_at_its_start_makes_it_outdated(change):
    changed = with_options(deployment(), **change)
    (replica,), _ = placed(deployment(), node("a"))
    assert not serves(replica, changed)
    (replica,), _ = placed(changed, node("a"))
    assert serves(replica, changed)


def test_a_nodes_view_shows_what_is_granted_on_its_gpus():
    (replica,), _ = placed(wants("cuda"), with_gpus("b", 16, 8))
    assert node_view(with_gpus("b", 16, 8), runs("b", replica)).granted.gpu_memory == 6 * GIB
