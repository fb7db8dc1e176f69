from datetime import UTC, datetime

from services.monitor.health import HealthTable
from shared.contracts.monitor import HealthBeat
from shared.deadlines import FORGET_INSTANCE_S, HEARTBEAT_TTL_S


def beat(service="registry", instance="registry-1", *, ready=True, reasons=(), leaving=False):
    return HealthBeat(
        service=service,
        instance=instance,
        pid=1,
        ready=ready,
        reasons=reasons,
        started_at=datetime(2026, 11, 24, tzinfo=UTC),
        version="0.1.0",
        leaving=leaving,
    )


def test_who_beats_is_up_with_its_reasons():
    table = HealthTable()
    table.observe(beat(ready=False, reasons=("bus: not connected",)), now=100.0)
    [instance] = table.report(now=101.5).instances
    assert (instance.up, instance.age) == (True, 1.5)
    assert not instance.beat.ready
    assert instance.beat.reasons == ("bus: not connected",)


def test_who_is_silent_is_down_then_forgotten():
    table = HealthTable()
    table.observe(beat(), now=0.0)
    assert table.report(HEARTBEAT_TTL_S - 0.1).instances[0].up
    assert not table.report(HEARTBEAT_TTL_S).instances[0].up
    assert table.report(FORGET_INSTANCE_S).instances == ()


def test_who_says_goodbye_is_gone_at_once():
    table = HealthTable()
    table.observe(beat(), now=0.0)
    table.observe(beat(leaving=True, ready=False), now=1.0)
    assert table.report(1.0).instances == ()


def test_the_last_beat_counts_and_instances_are_told_apart_in_order():
    table = HealthTable()
    table.observe(beat("scheduler", "b"), now=0.0)
    table.observe(beat("replica", "m.1-x"), now=0.0)
    table.observe(beat("replica", "a"), now=0.0)
    table.observe(beat("scheduler", "b", ready=False), now=1.0)
    report = table.report(1.0)
    assert [(each.beat.service, each.beat.instance, each.beat.ready) for each in report.instances] == [
        ("replica", "a", True),
        ("replica", "m.1-x", True),
        ("scheduler", "b", False),
    ]
