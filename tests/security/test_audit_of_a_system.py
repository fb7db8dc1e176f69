"""The record of changes in a whole system, whose bus lets each service write its own chain and no other."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from llmos.embedded import nats
from llmos.home import Home
from shared.bus.access.roles import Role
from shared.bus.connect import connect
from shared.contracts.events import EVENTS
from tests.support.harness.embedded import Embedded
from tests.support.harness.wait import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def events(system: Embedded, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(system.cli("events", "--json", "--limit", "1000", *options).stdout)
    return found


async def delete_an_event(home: Home, service: str) -> None:
    """What somebody with the owner's password can do."""
    ports = home.ports()
    assert ports is not None
    password = home.bus_passwords(nats.USERS)[Role.OWNER]
    bus = await connect(nats.user_url(ports.nats, Role.OWNER, password), name="intruder", owner=True)
    stream = bus.stream(EVENTS.name, [EVENTS.subjects], max_bytes=EVENTS.max_bytes, max_age=EVENTS.max_age)
    first = (await stream.after(0, f"llmos.v1.events.{service}", limit=1))[0][0]
    await bus._jetstream.manager.delete_msg(EVENTS.name, first)  # type: ignore[attr-defined]
    await bus.drain()


def test_a_system_records_who_changed_what_and_names_an_event_that_was_removed(tmp_path: Path) -> None:
    with Embedded(tmp_path, demo=False) as system:
        made = json.loads(system.cli("key", "create", "laptop", "--json").stdout)
        (created,) = events(system, "--kind", "key.created", "--name", made["id"])
        assert created["by"].startswith("key-")

        def started() -> set[str]:
            return {event["service"] for event in events(system, "--kind", "service.started")}

        services = {"registry", "scheduler", "inference", "gateway", "monitor"}
        asyncio.run(eventually(lambda: started() >= services, timeout=30))
        checked = system.cli("audit", "verify")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "no event is missing or altered" in checked.stdout

        assert json.loads(system.home.audit_heads.read_text())
        asyncio.run(delete_an_event(system.home, "registry"))
        again = system.cli("audit", "verify")
        assert again.returncode == 1, again.stdout
        assert "registry: " in again.stdout
        assert "missing" in again.stdout
