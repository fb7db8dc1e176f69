"""A system is one file: written while it runs, and restored into an empty home, another store, another machine."""

import os
import subprocess
import tarfile
import threading
from pathlib import Path

import orjson
import pytest

from shared.bus.access.roles import Role
from shared.service.python import python_module
from tests.operation.conftest import unpacked, without_services
from tests.operation.test_upgrade import APP_KEY, asked, models_seen_with
from tests.support.harness.embedded import Embedded
from tests.support.nats.accounts import AccountsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HOLDS = "1 model, 1 dataset, 2 deployments, 3 API keys, 1 file, 1 alias"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A backup with weights of the home of format 0, made by this version."""
    folder = tmp_path_factory.mktemp("original")
    system = unpacked("format-0", folder / "home")
    without_services(system)
    done = system.cli("backup", str(folder / "backup.tar"))
    assert done.returncode == 0, done.stderr
    assert HOLDS in done.stdout
    assert "exists" in system.cli("backup", str(folder / "backup.tar")).stderr, "nothing is overwritten"
    secrets = [system.key, *system.home.bus_passwords([]).values()]
    content = (folder / "backup.tar").read_bytes()
    assert not [secret for secret in secrets if secret.encode() in content]
    return folder / "backup.tar"


def test_a_backup_of_a_system_that_changes_is_of_one_moment(home_of, tmp_path) -> None:
    with home_of("format-0") as system:
        stop = threading.Event()

        def change() -> None:
            """A key is made before a deployment is changed, so no moment has the second without the first."""
            number = 0
            with system.http() as client:
                while not stop.wait(0.02):
                    number += 1
                    made = client.post("/llmos/v1/keys", json={"name": f"n{number}", "scopes": ["read"]})
                    made.raise_for_status()
                    body = {"reference": "tiny:1", "name": "paused", "replicas": 0, "slots": number}
                    client.post("/llmos/v1/deployments", json=body).raise_for_status()

        changing = threading.Thread(target=change)
        changing.start()
        try:
            for number in range(3):
                done = system.cli("backup", str(tmp_path / f"{number}.tar"))
                assert done.returncode == 0, done.stderr
        finally:
            stop.set()
            changing.join()
    found = []
    for number in range(3):
        with tarfile.open(tmp_path / f"{number}.tar") as archive:
            state = orjson.loads(archive.extractfile("state.json").read())["buckets"]
        keys = {record["value"]["name"] for record in state["LLMOS_TENANTS"]["records"]}
        paused = next(record for record in state["LLMOS_DEPLOYMENTS"]["records"] if record["key"] == "paused")
        newest = max((int(name[1:]) for name in keys if name[1:].isdigit()), default=0)
        found.append(newest)
        assert newest - 1 <= paused["value"]["options"]["slots"] <= newest or newest <= 1
    assert max(found) > 1, "nothing changed between the backups"


def test_an_empty_home_and_another_store_become_the_system(original, tmp_path, s3_server) -> None:
    store = s3_server.url("restored")
    access = {"LLMOS_S3_ACCESS_KEY": s3_server.access_key, "LLMOS_S3_SECRET_KEY": s3_server.secret_key}
    system = Embedded(tmp_path / "new", demo=False, env={"LLMOS_STORE_URL": store, **access})
    done = system.cli("restore", str(original))
    assert done.returncode == 0, done.stderr
    assert HOLDS in done.stdout
    assert "missing" not in done.stderr
    with system:
        assert models_seen_with(system, APP_KEY) == {"chat", "paused"}
        assert asked(system, APP_KEY)
        assert not list((system.home.root / "store").glob("blobs/**/*.*"))
    refused = system.cli("restore", str(original))
    assert "give --replace" in refused.stderr
    assert system.cli("restore", str(original), "--replace").returncode == 0
    assert list(system.home.nats.glob("jetstream-*")), "what was replaced is moved aside"


def test_without_weights_the_missing_files_are_named(original, tmp_path) -> None:
    full = Embedded(tmp_path / "full", demo=False)
    without_services(full)
    done = full.cli("restore", str(original), "--replace")
    assert done.returncode == 1
    assert "belongs to system-" in done.stderr, "another system's home"
    system = Embedded(tmp_path / "home", demo=False)
    assert system.cli("restore", str(original)).returncode == 0
    small = tmp_path / "small.tar"
    assert system.cli("backup", "--without-weights", str(small)).returncode == 0
    assert small.stat().st_size < original.stat().st_size / 5
    beside = Embedded(tmp_path / "beside", demo=False)
    done = beside.cli("restore", str(small))
    assert done.returncode == 0, done.stderr
    assert "missing: blob " in done.stderr
    assert "of model tiny:1 is not in the store" in done.stderr


@pytest.mark.parametrize("cut", [100, 3000, 20_000, -2000])
def test_a_file_that_was_cut_off_or_changed_is_refused_and_nothing_is_done(original, tmp_path, cut: int) -> None:
    system = Embedded(tmp_path / "home", demo=False)
    broken = tmp_path / "broken.tar"
    broken.write_bytes(original.read_bytes()[:cut])
    done = system.cli("restore", str(broken))
    assert done.returncode == 1
    assert str(broken) in done.stderr
    assert "Traceback" not in done.stderr
    data = bytearray(original.read_bytes())
    at = data.index(b'"LLMOS_TENANTS"')
    data[at + 40] ^= 1
    broken.write_bytes(bytes(data))
    done = system.cli("restore", str(broken))
    assert done.returncode == 1
    assert "was changed: state.json" in done.stderr
    assert system.home.record() is None


def test_a_deployment_without_the_command_line_is_restored_with_the_same_file(original, tmp_path, s3_server) -> None:
    with AccountsServer(tmp_path / "nats") as server:
        environment = {
            **os.environ,
            "LLMOS_NATS_URL": server.url_of(Role.OWNER),
            "LLMOS_STORE_URL": s3_server.url("containers"),
            "LLMOS_S3_ACCESS_KEY": s3_server.access_key,
            "LLMOS_S3_SECRET_KEY": s3_server.secret_key,
        }

        def state(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*python_module("shared.state"), *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        assert state("prepare").returncode == 0
        refused = state("restore", str(original))
        assert "the store to system-" in refused.stderr, "it belongs to another system since it was prepared"
        environment["LLMOS_STORE_URL"] = s3_server.url("containers-2")
        done = state("restore", str(original))
        assert done.returncode == 0, done.stderr
        assert HOLDS in done.stderr
        assert state("prepare").returncode == 0
        again = state("backup", str(tmp_path / "again.tar"))
        assert again.returncode == 0, again.stderr
        assert len(state("snapshots").stdout.split()) == 1
        server.kill()
        for path in (server.folder / "jetstream").iterdir():
            path.rename(tmp_path / path.name)
        server.start()
        lost = state("prepare")
        assert lost.returncode == 1
        assert "control state is lost" in lost.stderr
        assert "'python -m shared.state restore' restores it" in lost.stderr
        assert state("restore").returncode == 0
        assert state("prepare").returncode == 0
