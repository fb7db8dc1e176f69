"""The loop: look, evaluate, and tell the log, the events and the webhook."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog

from services.monitor.alerts import alertmanager
from services.monitor.alerts.observation import Observation
from services.monitor.alerts.policy.rules import enabled, evaluate
from services.monitor.alerts.policy.states import Alert, Alerts
from services.monitor.alerts.rule_file import AlertsFile
from shared.audit.trail import Trail
from shared.contracts.base import Empty
from shared.contracts.monitor import AlertList, AlertState, AlertView
from shared.errors import LlmosError, Unavailable
from shared.service.background import background

_log = structlog.get_logger("llmos.monitor")

EVERY_S = 5.0


class AlertWatch:
    """Evaluates the rules while it runs.

    Args:
        observation: What there is to see.
        file: The rules, and who is told.
        trail: Takes what fires and is resolved.
        now: The time of day.
    """

    def __init__(
        self,
        observation: Observation,
        file: AlertsFile,
        trail: Trail,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._observation = observation
        self._file = file
        self._trail = trail
        self._now = now
        self._alerts = Alerts(file.rules)
        self._send = asyncio.Event()
        self._unsent = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["AlertWatch"]:
        """Evaluate while inside."""
        async with (
            background(self._run(), "evaluate alerts"),
            background(self._check_events(), "check the chains of events"),
            background(self._notify(), "notify the webhook"),
        ):
            yield self

    async def list(self, _: Empty) -> AlertList:
        """All alerts that are not inactive."""
        return AlertList(alerts=tuple(_view(alert) for alert in self._alerts.all), webhook_error=self._unsent)

    async def step(self) -> None:
        """One look."""
        found = evaluate(await self._observation.look(), self._file.rules)
        for alert in self._alerts.step(found, self._now()):
            await self._note(alert)
            self._send.set()

    async def _note(self, alert: Alert) -> None:
        fired = alert.state is AlertState.FIRING
        write = _log.warning if fired else _log.info
        kind = "alert.fired" if fired else "alert.resolved"
        about = {"severity": alert.severity, "summary": alert.summary}
        write(kind, rule=alert.rule, labels=dict(alert.labels), **about)
        await self._trail.note(kind, alert.rule, by="", **about, **alert.labels)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.step()

    async def _check_events(self) -> None:
        while enabled(self._file.rules, "audit_gap"):
            try:
                await self._observation.check_events()
            except LlmosError as error:
                _log.warning("events.not_checked", error=error.message, retrying=True)
            await asyncio.sleep(self._file.rules.audit_gap.every_s)

    async def _notify(self) -> None:
        """Send what fires, and what was resolved of late, at each change and every `repeat_s` seconds."""
        webhook = self._file.webhook
        if webhook is None:
            return
        while True:
            try:
                async with asyncio.timeout(webhook.repeat_s):
                    await self._send.wait()
            except TimeoutError:
                pass
            self._send.clear()
            now = self._now()
            try:
                await alertmanager.send([one for one in self._alerts.all if _is_news(one, now)], webhook, now)
            except Unavailable as error:
                if error.message != self._unsent:
                    _log.warning("alerts.not_sent", error=error.message, retrying=True)
                self._unsent = error.message
                await asyncio.sleep(min(webhook.repeat_s, 5.0))
                self._send.set()
            else:
                self._unsent = ""


def _is_news(alert: Alert, now: datetime) -> bool:
    """As Prometheus: a resolved alert is sent for 15 minutes."""
    return alert.resolved_at is None or now - alert.resolved_at < timedelta(minutes=15)


def _view(alert: Alert) -> AlertView:
    return AlertView(
        rule=alert.rule,
        labels=dict(alert.labels),
        severity=alert.severity,
        state=alert.state,
        summary=alert.summary,
        since=alert.since,
        fired_at=alert.fired_at,
        resolved_at=alert.resolved_at,
    )
