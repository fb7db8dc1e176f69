"""What an Alertmanager is told."""

from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.alerts.alertmanager import payload, send
from services.monitor.alerts.policy.states import Alert
from services.monitor.alerts.rule_file import Webhook
from shared.contracts.monitor import AlertState
from shared.errors import Unavailable
from tests.support.harness.alertmanager import alertmanager
from tests.support.nats.server import free_port

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
FIRING = Alert(
    "disk_low",
    {"folder": "/a"},
    "warning",
    "5.0% is free",
    AlertState.FIRING,
    since=NOW - timedelta(minutes=2),
    seen=NOW,
    fired_at=NOW - timedelta(minutes=1),
)


def test_alerts_have_the_form_of_version_2() -> None:
    webhook = Webhook(url="http://a", repeat_s=60, labels={"cluster": "berlin"})
    resolved = Alert(
        "no_leader",
        {},
        "critical",
        "no scheduler leads",
        AlertState.RESOLVED,
        since=NOW,
        seen=NOW,
        fired_at=NOW,
        resolved_at=NOW + timedelta(minutes=1),
    )
    pending = Alert("bus_lag", {}, "warning", "slow", AlertState.PENDING, since=NOW, seen=NOW)
    assert payload([FIRING, resolved, pending], webhook, NOW) == [
        {
            "labels": {"cluster": "berlin", "folder": "/a", "alertname": "llmos_disk_low", "severity": "warning"},
            "annotations": {"summary": "5.0% is free"},
            "startsAt": "2026-11-30T11:59:00Z",
            "endsAt": "2026-11-30T12:04:00Z",
        },
        {
            "labels": {"cluster": "berlin", "alertname": "llmos_no_leader", "severity": "critical"},
            "annotations": {"summary": "no scheduler leads"},
            "startsAt": "2026-11-30T12:00:00Z",
            "endsAt": "2026-11-30T12:01:00Z",
        },
    ]


async def test_they_are_posted_where_alertmanager_takes_them() -> None:
    with alertmanager() as (url, heard):
        await send([FIRING], Webhook(url=url + "/"), NOW)
        await send([], Webhook(url=url), NOW)
    ((path, body),) = heard
    assert path == "/api/v2/alerts"
    assert body == payload([FIRING], Webhook(url=url), NOW)


async def test_a_refusal_and_a_server_that_is_not_there_are_said() -> None:
    with alertmanager(400) as (url, _), pytest.raises(Unavailable, match="answered 400: bad labels"):
        await send([FIRING], Webhook(url=url), NOW)
    with pytest.raises(Unavailable, match=r"can't be reached: .*refused"):
        await send([FIRING], Webhook(url=f"http://127.0.0.1:{free_port()}"), NOW)
