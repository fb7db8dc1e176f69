"""Homes of all earlier formats start; those of a later one are refused by name."""

import subprocess

import httpx
import orjson
import pytest

from shared.contracts.state import FORMAT
from tests.operation.conftest import HOMES
from tests.support.harness.embedded import Embedded, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

APP_KEY = "llmos-ColNmr1-CqI4eQ77E7lQ_paONgv53xO5g92Sg7EMCVE"
"""Of the key `app` in `homes/`."""


def models_seen_with(system: Embedded, key: str) -> set[str]:
    response = httpx.get(
        f"{system.url}/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=10, trust_env=False
    )
    response.raise_for_status()
    return {model["id"] for model in response.json()["data"]}


def asked(system: Embedded, key: str) -> bool:
    """Whether the deployment `chat` answers to a key."""

    def completes() -> bool:
        done = system.cli("complete", "chat", "Hi", "--max-tokens", "8", env={"LLMOS_API_KEY": key})
        assert done.returncode == 0 or "no replica that is ready" in done.stderr, done.stderr
        return done.returncode == 0

    return until(completes, 60, "an answer of chat")


def files_of(system: Embedded) -> dict[str, bytes]:
    """What may not change in a home that is refused."""
    found = {path: path.read_bytes() for path in system.home.root.rglob("*") if path.is_file()}
    return {
        str(path.relative_to(system.home.root)): data
        for path, data in found.items()
        if path.suffix != ".log" and path.name not in {"lock", "up.out"}
    }


@pytest.mark.parametrize("written_by", sorted(path.name.removesuffix(".tar.xz") for path in HOMES.glob("*.tar.xz")))
def test_a_home_of_an_earlier_format_starts_with_all_it_had_after_a_backup(home_of, written_by: str) -> None:
    with home_of(written_by) as system:
        assert "becomes format" in system.output
        assert system.home.record().format == FORMAT
        (backup,) = system.home.backups.iterdir()
        assert backup.stat().st_mode & 0o777 == 0o600
        assert {(model["name"], tuple(model["aliases"].items())) for model in system.json("model", "list")} == {
            ("tiny", (("prod", 1),))
        }
        assert {one["name"] for one in system.json("data", "list")} == {"rows"}
        assert {(key["name"], key["revoked"]) for key in system.json("key", "list")} == {
            ("bootstrap admin key", False),
            ("app", False),
            ("guest", True),
        }
        done = system.cli("deploy", "tiny@prod", "--name", "chat")
        assert "unchanged" in done.stdout, "its options are what they were"
        assert done.returncode == 0, done.stderr
        assert models_seen_with(system, APP_KEY) == {"chat", "paused"}
        assert asked(system, APP_KEY)
        assert len(httpx.get(f"{system.url}/v1/files", headers=admin(system), trust_env=False).json()["data"]) == 1
        assert system.stop() == 0
        system.start()
        assert "becomes format" not in system.output
        assert list(system.home.backups.iterdir()) == [backup]


def admin(system: Embedded) -> dict[str, str]:
    return {"Authorization": f"Bearer {system.key}"}


@pytest.mark.parametrize("name", ["home.json", "ports.json", "store/system.json"])
def test_what_a_later_version_wrote_is_refused_by_name_and_stays(home_of, name: str) -> None:
    system = home_of("format-0")
    newer = {"format": FORMAT + 1, "llmos": "7.8.9", "id": "system-1", "created_at": "2030-01-01T00:00:00Z"}
    (system.home.root / name).write_bytes(orjson.dumps(newer | {"http": 1, "nats": 2, "invented": True}))
    before = files_of(system)
    done = system.cli("up", "--no-demo")
    assert done.returncode == 1
    assert (
        f"has format {FORMAT + 1}, written by LLMOS 7.8.9, and this LLMOS reads formats up to {FORMAT}" in done.stderr
    )
    if name != "store/system.json":  # where nothing was started
        assert name in done.stderr
        assert files_of(system) == before


def test_the_version_is_printed_with_the_format(tmp_path) -> None:
    command = [*Embedded(tmp_path, demo=False).command, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["llmos", "0.1.0,", "format", str(FORMAT)])
