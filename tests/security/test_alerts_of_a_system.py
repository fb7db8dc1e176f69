"""Alerts in a whole system, whose monitor reads what it needs on the bus and no more."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness.alertmanager import alertmanager
from tests.support.harness.embedded import Embedded
from tests.support.harness.wait import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def alerts(system: Embedded) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(system.cli("alerts", "--json").stdout)["alerts"]
    return found


def test_a_process_that_is_stopped_is_an_alert_that_is_told(tmp_path: Path) -> None:
    with alertmanager() as (url, heard):
        (tmp_path / "alerts.toml").write_text(f'[webhook]\nurl = "{url}"\n[rules.process_down]\nfor_s = 0\n')
        with Embedded(tmp_path, demo=False) as system:
            assert not [alert for alert in alerts(system) if alert["rule"] in ("no_leader", "bus_lag", "audit_gap")]
            registry = system.pid_of("registry")
            os.kill(registry, signal.SIGSTOP)

            def services() -> set[str]:
                return {alert["labels"].get("service", "") for _, body in heard for alert in body}

            try:
                asyncio.run(eventually(lambda: "registry" in services(), timeout=60))
                firing = system.cli("alerts")
                assert firing.returncode == 1
                assert "process_down" in firing.stdout
                assert "alert.fired" in system.cli("events", "--kind", "alert").stdout
            finally:
                os.kill(registry, signal.SIGCONT)


def test_a_file_that_is_wrong_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "alerts.toml").write_text("[rules.disk_low]\nfree = 15\n")
    system = Embedded(tmp_path, demo=False)
    ended = system.cli("up", "--no-demo", "--port", str(system.port))
    assert ended.returncode == 1
    assert "alerts.toml: rules.disk_low.free = 15: Input should be less than 1" in ended.stderr
