"""Importing from the command line: good files, bad files, a full disk."""

import hashlib
import os
import subprocess
import time

import gguf
import numpy as np
import pytest

from llmos.cli.demo import demo_gguf
from tests.support.harness.embedded import Embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def _models(system: Embedded) -> dict[str, int]:
    return {model["name"]: len(model["versions"]) for model in system.json("model", "list")}


def test_the_same_file_again_is_the_same_version(demo):
    done = demo.cli("model", "import", str(demo_gguf()), "--name", "smollm2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("smollm2:1 ")
    assert _models(demo) == {"smollm2": 1}


def test_a_truncated_gguf_is_refused_and_leaves_nothing(demo, tmp_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(demo_gguf().read_bytes()[: 40 << 20])
    blobs = sorted(p.name for p in demo.home.store.rglob("*") if p.is_file())
    done = demo.cli("model", "import", str(path), "--name", "cut")
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "truncated" in done.stderr or "ends" in done.stderr
    assert "cut" not in _models(demo)
    assert sorted(p.name for p in demo.home.store.rglob("*") if p.is_file()) == blobs


def test_an_unsupported_quantisation_is_refused_naming_it(demo, tmp_path):
    path = tmp_path / "iq2.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(256)
    writer.add_block_count(1)
    writer.add_feed_forward_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tensor(
        "token_embd.weight",
        np.zeros((64, 66), np.uint8),
        raw_dtype=gguf.GGMLQuantizationType.IQ2_XXS,
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    done = demo.cli("model", "import", str(path), "--name", "iq2")
    assert done.returncode == 1
    assert "IQ2_XXS" in done.stderr
    assert "iq2" not in _models(demo)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("/nowhere/x.gguf", "no such file"),
        ("pyproject.toml", "expected a .gguf file"),
        ("docs", "expected a .gguf file"),
    ],
)
def test_a_source_that_is_no_model_is_refused(demo, source, says):
    done = demo.cli("model", "import", source, "--name", "x")
    assert done.returncode == 1
    assert says in done.stderr


def test_a_name_that_cannot_be_a_model_is_refused(demo):
    done = demo.cli("model", "import", str(demo_gguf()), "--name", "Bad Name")
    assert done.returncode == 1
    assert "--name" in done.stderr


def test_an_alias_moves_and_an_unknown_version_is_refused(demo):
    assert demo.cli("model", "alias", "smollm2@stable", "1").returncode == 0
    assert demo.json("model", "show", "smollm2@stable")["version"] == 1
    refused = demo.cli("model", "alias", "smollm2@stable", "7")
    assert refused.returncode == 1
    assert "7" in refused.stderr
    assert demo.cli("model", "alias", "smollm2@stable", "--remove").returncode == 0


def test_a_deployed_model_is_not_deleted(demo):
    refused = demo.cli("model", "delete", "smollm2", "--yes")
    assert refused.returncode == 1
    assert "smollm2" in refused.stderr


def test_garbage_is_listed_first_and_removed_when_asked(demo):
    data = b"no version refers to this"
    digest = hashlib.sha256(data).hexdigest()
    with demo.http() as client:
        assert client.put(f"/llmos/v1/blobs/{digest}", content=data).status_code == 201
    assert demo.json("model", "gc", "--dry-run")["blobs"] == []  # it is young
    [path] = demo.home.store.rglob(digest)
    os.utime(path, (path.stat().st_atime, time.time() - 25 * 3600))
    named = demo.cli("model", "gc", "--dry-run")
    assert named.returncode == 0, named.stderr
    assert named.stdout.splitlines() == [f"blob {digest}", f"blobs: 1, manifests: 0, {len(data)} B would be freed"]
    assert path.exists()
    removed = demo.cli("model", "gc")
    assert removed.stdout == f"blobs: 1, manifests: 0, {len(data)} B freed\n"
    assert not path.exists()
    assert demo.json("model", "gc") == {"blobs": [], "manifests": [], "size": 0, "dry_run": False}
    assert demo.json("model", "show", "smollm2")["version"] == 1


def test_a_deployment_that_fits_nowhere_says_why(demo):
    done = demo.cli(
        "deploy", "smollm2", "--name", "huge", "--slots", "1024", "--max-len", "8192", "--no-wait", "--allow-unplaced"
    )
    try:
        assert done.returncode == 0, done.stderr
        listed = {item["deployment"]["name"]: item for item in demo.json("deployments")}
        assert listed["huge"]["ready"] == 0
        assert "no node has" in listed["huge"]["unplaced"][0]
        assert "GiB free: local has" in listed["huge"]["unplaced"][0]
    finally:
        demo.cli("undeploy", "huge")
    assert "huge" not in {item["deployment"]["name"] for item in demo.json("deployments")}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 48 MiB, where this machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_while_importing_is_an_error_and_leaves_nothing_half_made(small_disk, tmp_path):
    store = (small_disk / "store").as_uri()
    with Embedded(tmp_path / "home", demo=False, env={"LLMOS_STORE_URL": store}) as system:
        done = system.cli("model", "import", str(demo_gguf()), "--name", "smollm2")
        assert done.returncode == 1, done.stdout
        assert "room" in done.stderr or "full" in done.stderr
        assert _models(system) == {}
        left = [path for path in small_disk.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in left) < 8 << 20, left
