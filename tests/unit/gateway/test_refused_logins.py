"""Refused logins are summed."""

from services.gateway.refused_logins import FURTHER, NAMED, Refusals, RefusedLogins
from shared.audit.trail import Trail
from shared.bus.memory.bus import MemoryBus
from shared.contracts.events import CHAINS
from shared.errors import PermissionDenied, Unauthenticated
from tests.support.harness.events import events_of
from tests.support.harness.wait import eventually


async def test_a_flood_is_one_event_that_counts_all_of_it() -> None:
    bus = MemoryBus()
    refused = RefusedLogins(Trail(bus, CHAINS["logins"], actor="gateway-1"), every=60)
    async with refused.running():
        for number in range(500):
            refused.note(Unauthenticated("no"), "", f"10.0.0.{number % 20}")
        refused.note(PermissionDenied("no"), "key-1", "10.0.0.1")
    (event,) = await events_of(bus)
    assert (event.kind, event.service, event.by) == ("login.refused", "logins", "")
    assert event.detail["count"] == "501"
    assert event.detail["reasons"] == "invalid_api_key: 500, permission_denied of key-1: 1"
    assert event.detail["addresses"].startswith("10.0.0.1: 26, ")
    assert event.detail["addresses"].count("10.0.0.") == NAMED
    await bus.drain()


async def test_a_sum_is_recorded_while_the_gateway_runs() -> None:
    bus = MemoryBus()
    refused = RefusedLogins(Trail(bus, CHAINS["logins"], actor="gateway-1"), every=0.01)
    async with refused.running():
        refused.note(Unauthenticated("no"), "", "10.0.0.1")
        await eventually(lambda: events_of(bus))
    assert len(await events_of(bus)) == 1
    await bus.drain()


def test_addresses_without_end_take_no_memory_without_end() -> None:
    refusals = Refusals()
    for number in range(5000):
        refusals.add(Unauthenticated("no"), "", f"10.{number // 256}.0.{number % 256}")
    assert len(refusals.addresses) == 1025
    assert refusals.addresses[FURTHER] == 5000 - 1024
    assert refusals.detail()["count"] == "5000"
