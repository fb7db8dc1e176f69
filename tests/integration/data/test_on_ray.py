"""Preparation on a Ray cluster of two nodes gives the digests of one process, also when a node is killed half-way."""

import json
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from devtools.data import row_file
from devtools.data.block_source import Input
from devtools.data.clean import Unicode
from devtools.data.near import Duplicates, NearDuplicates
from devtools.data.pipeline import Plan, prepare
from devtools.data.split import Split
from devtools.data.version import import_files
from tests.support.harness.embedded import until

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed: pip install 'llmos[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")
OnRay = pytest.importorskip("devtools.data.on_ray").OnRay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PLAN = Plan([Unicode(), Duplicates(), NearDuplicates(0.7)], Split(validation=0.1))


@pytest.fixture
def cluster(monkeypatch):
    """The head node of a cluster on loopback."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = tempfile.mkdtemp(prefix="ray-")  # short: a socket's path has at most 107 characters
    monkeypatch.setenv("RAY_TMPDIR", folder)
    options = {"object_store_memory": 100 << 20, "include_dashboard": False}
    nodes = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "node_ip_address": "127.0.0.2", **options},
    )
    yield nodes
    ray.shutdown()
    nodes.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def version(tmp_path, monkeypatch):
    monkeypatch.setattr(row_file, "BLOCK_BYTES", 5_000)
    random_ = random.Random(0)
    words = [f"word{n}" for n in range(500)]
    rows = [" ".join(random_.choices(words, k=40)) for _ in range(1000)]
    rows += rows[:50] + [f"{row} more" for row in rows[50:100]]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return Input(tmp_path / "version", import_files([path], tmp_path / "version").manifest, "ab" * 32)


class LosesNode:
    """Runs on the cluster; kills a node when the first blocks are done."""

    def __init__(self, executor, nodes, node) -> None:
        self._executor, self._nodes, self._node = executor, nodes, node
        self.blocks_after = 0

    def run(self, stage, blocks):
        for number, output in enumerate(self._executor.run(stage, blocks)):
            if number == 3 and self._node is not None:
                self._nodes.remove_node(self._node, allow_graceful=False)
                self._node = None
            self.blocks_after += self._node is None
            yield output


def test_the_digest_of_a_cluster_is_that_of_one_process_also_when_it_loses_a_node(version, cluster, tmp_path: Path):
    here = prepare([version], PLAN, tmp_path / "here")
    second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3", object_store_memory=100 << 20)
    cluster.wait_for_nodes()
    with OnRay(cluster.address) as on_ray:
        assert ray.cluster_resources()["CPU"] == 2
        assert prepare([version], PLAN, tmp_path / "whole", executor=on_ray) == here
        loses = LosesNode(on_ray, cluster, second)
        assert prepare([version], PLAN, tmp_path / "killed", executor=loses) == here
        assert loses.blocks_after > 10
        until(lambda: len([node for node in ray.nodes() if node["Alive"]]) == 1, 60, "the cluster notes the loss")
    assert here.row_count == 1000
