from datetime import UTC, datetime

from services.monitor.health import HealthTable
from shared.contracts.monitor import Heartbeat
from shared.deadlines import FORGET_INSTANCE_S, HEARTBEAT_TTL_S


def heartbeat(service="registry", instance="registry-1", *, ready=True, reasons=(), leaving=False):
    return Heartbeat(
        service=service,
        instance=instance,
        pid=1,
        ready=ready,
        reasons=reasons,
        started_at=datetime(2026, 11, 24, tzinfo=UTC),
        version="0.1.0",
        leaving=leaving,
    )


def test_a_process_with_a_heartbeat_is_up_with_its_reasons():
    table = HealthTable()
    table.observe(heartbeat(ready=False, reasons=("bus: not connected",)), now=100.0)
    [instance] = table.report(now=101.5).instances
    assert (instance.up, instance.age) == (True, 1.5)
    assert not instance.heartbeat.ready
    assert instance.heartbeat.reasons == ("bus: not connected",)


def test_who_is_silent_is_down_then_forgotten():
    table = HealthTable()
    table.observe(heartbeat(), now=0.0)
    assert table.report(HEARTBEAT_TTL_S - 0.1).instances[0].up
    assert not table.report(HEARTBEAT_TTL_S).instances[0].up
    assert table.report(FORGET_INSTANCE_S).instances == ()


def test_who_says_goodbye_is_gone_at_once():
    table = HealthTable()
    table.observe(heartbeat(), now=0.0)
    table.observe(heartbeat(leaving=True, ready=False), now=1.0)
    assert table.report(1.0).instances == ()


def test_the_last_heartbeat_counts_and_instances_are_distinct_and_in_order():
    table = HealthTable()
    table.observe(heartbeat("scheduler", "b"), now=0.0)
    table.observe(heartbeat("replica", "m.1-x"), now=0.0)
    table.observe(heartbeat("replica", "a"), now=0.0)
    table.observe(heartbeat("scheduler", "b", ready=False), now=1.0)
    report = table.report(1.0)
    assert [(each.heartbeat.service, each.heartbeat.instance, each.heartbeat.ready) for each in report.instances] == [
        ("replica", "a", True),
        ("replica", "m.1-x", True),
        ("scheduler", "b", False),
    ]


def test_processes_that_began_are_counted_by_service():
    table = HealthTable()
    for instance in ("registry-1", "registry-1", "registry-2"):
        table.observe(heartbeat(instance=instance), now=0.0)
    table.observe(heartbeat(instance="registry-2", leaving=True), now=1.0)
    table.observe(heartbeat("gateway", "gateway-1"), now=1.0)
    report = table.report(FORGET_INSTANCE_S, pending=7)
    assert report.starts == {"registry": 2, "gateway": 1}
    assert report.pending == 7
