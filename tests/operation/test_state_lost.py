"""Control state that is lost or damaged is never begun without: the start is refused, and one command restores."""

import gzip
import random
import shutil
from pathlib import Path

import httpx
import pytest

from shared.state.snapshots import Snapshot
from tests.operation.conftest import without_services
from tests.operation.test_upgrade import APP_KEY, asked
from tests.support.harness.embedded import Embedded, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def snapshots(system: Embedded) -> list[Snapshot]:
    names = (path.name for path in (system.home.store / "snapshots").glob("*"))
    return sorted(one for name in names if (one := Snapshot.parse(name)) is not None)


def overwrite(path: Path, at: int, count: int = 300) -> None:
    """Put random bytes over `count` bytes of a file, or over what there is of it behind `at`."""
    data = bytearray(path.read_bytes())
    data[at : at + count] = random.Random(1).randbytes(count)[: max(0, len(data) - at)]
    path.write_bytes(bytes(data))


def delete_the_bus(system: Embedded) -> None:
    shutil.rmtree(system.home.nats)


def damage_a_record(system: Embedded) -> None:
    folder = system.home.nats / "jetstream/jetstream/owner/streams/KV_LLMOS_DEPLOYMENTS/msgs"
    overwrite(max(folder.glob("*.blk")), 200)


DAMAGE = {
    delete_the_bus: "control state is lost: the store has 2 versions of system-",
    damage_a_record: "control state is damaged: 1 record of LLMOS_DEPLOYMENTS can't be read (without chat)",
}


def test_what_was_changed_is_in_a_snapshot_and_the_snapshot_brings_it_back(home_of) -> None:
    system = home_of("format-0")
    system._env |= {"LLMOS_REGISTRY_SNAPSHOT_INTERVAL": "1", "LLMOS_REGISTRY_SNAPSHOT_NUMBER": "2"}
    with system:
        for number in range(3):
            before = snapshots(system)[-1:]
            assert system.cli("key", "create", f"key-{number}").returncode == 0
            until(lambda before=before: snapshots(system)[-1:] > before, 60, "a snapshot of the change")
        # The newest two, and of each day the last one, which is the newest.
        until(lambda: len(snapshots(system)) == 2, 20, "the newest two")
        text = b"".join(gzip.decompress(path.read_bytes()) for path in (system.home.store / "snapshots").glob("*"))
        assert b'"key-2"' in text
        assert system.key.encode() not in text, "keys are hashes"
        app = next(key for key in system.json("key", "list") if key["name"] == "app")
        system.kill()
        until(lambda: not system.processes(), 20, "no process left")
        system.start()
        assert len(system.json("key", "list")) == 6, "a crash is no loss"
        assert system.cli("key", "revoke", app["id"]).returncode == 0
    for damage, message in DAMAGE.items():
        damage(system)
        stored = {path: path.read_bytes() for path in system.home.store.rglob("*") if path.is_file()}
        for _ in range(2):  # a start that was refused hides nothing from the next one
            refused = system.cli("up", "--no-demo")
            assert refused.returncode == 1, damage.__name__
            assert message in refused.stderr
            assert f"'llmos restore --home {system.home.root}' restores it" in refused.stderr
        assert {path: path.read_bytes() for path in system.home.store.rglob("*") if path.is_file()} == stored
        refused = system.cli("backup", str(system.home.root / "damaged.tar"))
        assert refused.returncode == 1
        assert message in refused.stderr, "a backup would hide it"
        restored = system.cli("restore")
        assert restored.returncode == 0, restored.stderr
        assert "1 model, 1 dataset, 2 deployments, 6 API keys, 1 file, 1 alias" in restored.stdout
    with system:
        assert {key["name"] for key in system.json("key", "list") if key["revoked"]} == {"app", "guest"}
        assert system.json("model", "show", "tiny@prod")["version"] == 1
        assert asked(system, system.key)
        refused = httpx.get(
            f"{system.url}/v1/models", headers={"Authorization": f"Bearer {APP_KEY}"}, timeout=30, trust_env=False
        )
        assert refused.status_code == 401, "a key that was revoked stays revoked"


def test_a_home_takes_no_bus_and_no_store_of_another_system(home_of) -> None:
    one, other = home_of("format-0", "one"), home_of("format-0", "other")
    ids = {system: without_services(system).id for system in (one, other)}
    assert ids[one] != ids[other]
    refused = one.cli("up", "--no-demo", "--store", other.home.store.as_uri())
    assert refused.returncode == 1
    assert f"the home {one.home.root} belongs to {ids[one]}" in refused.stderr
    assert f"the store {other.home.store.as_uri()} to {ids[other]}" in refused.stderr
    backup = other.home.root / "backup.tar"
    assert other.cli("backup", str(backup)).returncode == 0
    refused = one.cli("restore", str(backup), "--replace")
    assert f"belongs to {ids[one]}, and what is restored to {ids[other]}" in refused.stderr
    shutil.rmtree(one.home.nats / "jetstream")
    shutil.copytree(other.home.nats / "jetstream", one.home.nats / "jetstream")
    refused = one.cli("up", "--no-demo")
    assert refused.returncode == 1
    assert f"belongs to {ids[one]}, and the bus to {ids[other]}" in refused.stderr
