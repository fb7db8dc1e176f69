"""Tells an Alertmanager by its API v2.

Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml, `postAlerts`.
"""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime, timedelta

import orjson

from services.monitor.alerts.policy.states import Alert
from services.monitor.alerts.rule_file import Webhook
from shared.contracts.monitor import AlertState
from shared.errors import Unavailable

TIMEOUT_S = 10.0
PATH = "/api/v2/alerts"


def payload(alerts: Sequence[Alert], webhook: Webhook, now: datetime) -> list[dict[str, object]]:
    """Firing and resolved alerts as `postableAlerts`. Pure.

    A firing one ends, unless it is sent again, after four intervals: as Prometheus does, for a sender that has died.
    """
    return [
        {
            "labels": {
                **webhook.labels,
                **alert.labels,
                "alertname": f"llmos_{alert.rule}",
                "severity": alert.severity,
            },
            "annotations": {"summary": alert.summary},
            "startsAt": _time(alert.fired_at or alert.since),
            "endsAt": _time(alert.resolved_at or now + timedelta(seconds=4 * webhook.repeat_s)),
        }
        for alert in alerts
        if alert.state in (AlertState.FIRING, AlertState.RESOLVED)
    ]


async def send(alerts: Sequence[Alert], webhook: Webhook, now: datetime) -> None:
    """Send them; raises `Unavailable` that says what went wrong."""
    content = payload(alerts, webhook, now)
    if not content:
        return
    url = webhook.url.rstrip("/") + PATH
    try:
        await asyncio.to_thread(_post, url, orjson.dumps(content))
    except urllib.error.HTTPError as error:
        reason = error.read(300).decode(errors="replace").strip()
        raise Unavailable(f"{url} answered {error.code}: {reason}") from error
    except (OSError, ValueError) as error:
        raise Unavailable(f"{url} can't be reached: {getattr(error, 'reason', error)}") from error


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310  # `Webhook` takes http and https alone
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310  # see above
        response.read(1)


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
