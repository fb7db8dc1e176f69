"""The states of alerts: one table, one mutator. Pure; `now` is the time of day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.monitor.alerts.policy.options import Options, RuleOptions, Severity
from services.monitor.alerts.policy.rules import Finding
from shared.contracts.monitor import AlertState

RESOLVE_AFTER = timedelta(seconds=60)
"""A firing alert whose finding comes and goes does not resolve in between."""
FORGET_AFTER = timedelta(hours=1)
"""A resolved alert is listed for this long."""

Key = tuple[str, tuple[tuple[str, str], ...]]
"""Rule and labels."""


class Look(StrEnum):
    """What one look at the system says of an alert."""

    FOUND = "found"
    """Its finding is there."""
    HELD = "held"
    """It has been there for as long as the rule wants."""
    GONE = "gone"
    """It is not there."""
    LONG_GONE = "long_gone"
    """It has not been there for a while."""


TRANSITIONS: Mapping[tuple[AlertState, Look], AlertState] = {
    (AlertState.INACTIVE, Look.FOUND): AlertState.PENDING,
    (AlertState.INACTIVE, Look.HELD): AlertState.FIRING,
    (AlertState.PENDING, Look.FOUND): AlertState.PENDING,
    (AlertState.PENDING, Look.HELD): AlertState.FIRING,
    (AlertState.PENDING, Look.GONE): AlertState.INACTIVE,
    (AlertState.PENDING, Look.LONG_GONE): AlertState.INACTIVE,
    (AlertState.FIRING, Look.FOUND): AlertState.FIRING,
    (AlertState.FIRING, Look.HELD): AlertState.FIRING,
    (AlertState.FIRING, Look.GONE): AlertState.FIRING,
    (AlertState.FIRING, Look.LONG_GONE): AlertState.RESOLVED,
    (AlertState.RESOLVED, Look.FOUND): AlertState.PENDING,
    (AlertState.RESOLVED, Look.HELD): AlertState.FIRING,
    (AlertState.RESOLVED, Look.GONE): AlertState.RESOLVED,
    (AlertState.RESOLVED, Look.LONG_GONE): AlertState.INACTIVE,
}


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert."""

    rule: str
    labels: Mapping[str, str]
    severity: Severity
    summary: str
    state: AlertState
    since: datetime
    """When its finding was there first, this time."""
    seen: datetime
    """When it was there last."""
    fired_at: datetime | None = None
    resolved_at: datetime | None = None


@dataclass(slots=True)
class Alerts:
    """All alerts that are not inactive."""

    options: RuleOptions
    _alerts: dict[Key, Alert] = field(default_factory=dict)

    @property
    def all(self) -> list[Alert]:
        """By rule and labels."""
        return [self._alerts[key] for key in sorted(self._alerts)]

    def step(self, found: Mapping[str, Sequence[Finding]], now: datetime) -> list[Alert]:
        """Take in the findings of each rule that could see; the alerts that fired or were resolved by it."""
        there = {_key(rule, finding): finding for rule, findings in found.items() for finding in findings}
        changed = []
        for key in sorted(there.keys() | {key for key in self._alerts if key[0] in found}):
            before = self._alerts.get(key)
            after = self._after(key, before, there.get(key), now)
            if after.state is AlertState.INACTIVE:
                self._alerts.pop(key, None)
                continue
            self._alerts[key] = after
            moved = before is None or before.state is not after.state
            if moved and after.state in (AlertState.FIRING, AlertState.RESOLVED):
                changed.append(after)
        return changed

    def _after(self, key: Key, before: Alert | None, finding: Finding | None, now: datetime) -> Alert:
        rule = key[0]
        alert = before
        if alert is None:
            assert finding is not None
            alert = Alert(
                rule, finding.labels, finding.severity, finding.summary, AlertState.INACTIVE, since=now, seen=now
            )
        if finding is not None:
            again = alert.state is AlertState.RESOLVED
            alert = replace(
                alert,
                severity=finding.severity,
                summary=finding.summary,
                seen=now,
                since=now if again else alert.since,
            )
        state = TRANSITIONS[alert.state, self._look(rule, alert, finding, now)]
        if state is alert.state:
            return alert
        if state is AlertState.FIRING:
            return replace(alert, state=state, fired_at=now, resolved_at=None)
        if state is AlertState.RESOLVED:
            return replace(alert, state=state, resolved_at=now)
        return replace(alert, state=state)

    def _look(self, rule: str, alert: Alert, finding: Finding | None, now: datetime) -> Look:
        if finding is not None:
            options: Options = getattr(self.options, rule)
            return Look.HELD if now - alert.since >= timedelta(seconds=options.for_s) else Look.FOUND
        limit = FORGET_AFTER if alert.state is AlertState.RESOLVED else RESOLVE_AFTER
        return Look.LONG_GONE if now - alert.seen >= limit else Look.GONE


def _key(rule: str, finding: Finding) -> Key:
    return rule, tuple(sorted(finding.labels.items()))
