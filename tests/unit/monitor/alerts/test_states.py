"""The life of an alert."""

from datetime import UTC, datetime, timedelta
from itertools import product

from services.monitor.alerts.policy.options import DiskOptions, RuleOptions, ShortOptions
from services.monitor.alerts.policy.rules import Finding
from services.monitor.alerts.policy.states import (
    FORGET_AFTER,
    RESOLVE_AFTER,
    TRANSITIONS,
    Alerts,
    Look,
)
from shared.contracts.monitor import AlertState

NOW = datetime(2026, 11, 30, tzinfo=UTC)
LOW = {"disk_low": [Finding({"folder": "/a"}, "5.0% is free", "warning")]}
FINE: dict[str, list[Finding]] = {"disk_low": []}


def alerts_of(for_s: float = 30.0) -> Alerts:
    return Alerts(RuleOptions(disk_low=DiskOptions(for_s=for_s)))


def states(alerts: Alerts) -> list[AlertState]:
    return [alert.state for alert in alerts.all]


def test_the_table_has_a_line_for_every_look_that_can_happen() -> None:
    impossible = {(AlertState.INACTIVE, Look.GONE), (AlertState.INACTIVE, Look.LONG_GONE)}
    assert TRANSITIONS.keys() == set(product(AlertState, Look)) - impossible


def test_an_alert_is_pending_then_fires_then_is_resolved_then_forgotten() -> None:
    alerts, at = alerts_of(), NOW
    assert alerts.step(LOW, at) == []
    assert states(alerts) == [AlertState.PENDING]
    assert alerts.step(LOW, at + timedelta(seconds=29)) == []
    at += timedelta(seconds=30)
    (fired,) = alerts.step(LOW, at)
    assert (fired.state, fired.since, fired.fired_at, fired.summary) == (AlertState.FIRING, NOW, at, "5.0% is free")
    assert alerts.step(LOW, at + timedelta(seconds=5)) == [], "it fires once"
    at += timedelta(seconds=5) + RESOLVE_AFTER
    (resolved,) = alerts.step(FINE, at)
    assert (resolved.state, resolved.resolved_at) == (AlertState.RESOLVED, at)
    alerts.step(FINE, at + timedelta(minutes=30))
    assert states(alerts) == [AlertState.RESOLVED]
    alerts.step(FINE, at + FORGET_AFTER)
    assert states(alerts) == []


def test_what_is_over_before_it_fires_is_nothing() -> None:
    alerts = alerts_of()
    alerts.step(LOW, NOW)
    assert alerts.step(FINE, NOW + timedelta(seconds=5)) == []
    assert states(alerts) == []


def test_a_finding_that_comes_and_goes_keeps_firing_and_is_told_once() -> None:
    alerts, at = alerts_of(for_s=0), NOW
    assert len(alerts.step(LOW, at)) == 1
    for _ in range(10):
        at += timedelta(seconds=20)
        assert alerts.step(FINE, at) == []
        at += timedelta(seconds=20)
        assert alerts.step(LOW, at) == []
    assert states(alerts) == [AlertState.FIRING]


def test_what_comes_back_after_it_was_resolved_fires_again() -> None:
    alerts = alerts_of(for_s=10)
    alerts.step(LOW, NOW)
    alerts.step(LOW, NOW + timedelta(seconds=10))
    alerts.step(FINE, NOW + timedelta(seconds=80))
    back = NOW + timedelta(seconds=100)
    assert alerts.step(LOW, back) == []
    assert states(alerts) == [AlertState.PENDING]
    (again,) = alerts.step(LOW, back + timedelta(seconds=10))
    assert (again.state, again.since, again.resolved_at) == (AlertState.FIRING, back, None)


def test_a_rule_that_can_not_see_changes_nothing() -> None:
    alerts = alerts_of(for_s=0)
    alerts.step(LOW, NOW)
    assert alerts.step({}, NOW + timedelta(hours=5)) == []
    assert states(alerts) == [AlertState.FIRING]


def test_labels_tell_alerts_of_one_rule_apart() -> None:
    alerts = Alerts(RuleOptions(no_leader=ShortOptions(for_s=0)))
    two = {"disk_low": [Finding({"folder": name}, "low", "warning") for name in ("/b", "/a")]}
    alerts.step(two, NOW)
    assert [alert.labels["folder"] for alert in alerts.all] == ["/a", "/b"]
