"""A start depends on no key, and whoever has the home gets a new admin key."""

import json
import stat
from pathlib import Path

import pytest

from tests.support.harness.embedded import Embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def admin_ids(system: Embedded) -> list[str]:
    return [key["id"] for key in system.json("key", "list") if "admin" in key["scopes"] and not key["revoked"]]


def test_a_revoked_bootstrap_key_neither_stops_a_start_nor_locks_the_owner_out(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Embedded(home, demo=False) as system:
        refused = system.cli("key", "recover")
        assert refused.returncode == 1
        assert "works; make another" in refused.stderr
        (bootstrap,) = admin_ids(system)
        second = json.loads(system.cli("key", "create", "second", "--scope", "admin", "--json").stdout)
        assert system.cli("key", "revoke", bootstrap).returncode == 0
        assert "was revoked" in system.cli("model", "list").stderr
    with Embedded(home, demo=True) as system:  # the demo needs a key: it is left out, and the system starts
        assert "was revoked" in system.cli("model", "list").stderr
        done = system.cli("key", "recover")
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE(system.home.key_file.stat().st_mode) == 0o600
        recovered, *_ = (event for event in system.json("key", "events") if event["kind"] == "key.recovered")
        assert recovered["name"] in done.stdout
        assert "llmos key recover" in recovered["actor"]
        assert set(admin_ids(system)) == {recovered["name"], second["id"]}
    with Embedded(home, demo=False) as system:
        assert recovered["name"] in admin_ids(system), "the recovered key works after a start, too"
        system.home.key_file.unlink()
        assert "no API key given" in system.cli("model", "list").stderr
        assert system.cli("key", "recover").returncode == 0
        assert system.cli("model", "list").returncode == 0


def test_without_a_running_system_the_way_is_said(tmp_path: Path) -> None:
    system = Embedded(tmp_path / "home", demo=False)
    refused = system.cli("key", "recover")
    assert refused.returncode == 1
    assert "llmos up" in refused.stderr
