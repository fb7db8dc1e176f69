"""The rules: from one look at the system to findings. Pure.

A rule that can't see its signals returns None, and its alerts keep their states.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.monitor.alerts.policy.options import (
    AuditOptions,
    BurnOptions,
    BusOptions,
    DiskOptions,
    FlappingOptions,
    LatencyOptions,
    MemoryOptions,
    Options,
    QueueOptions,
    RuleOptions,
    Severity,
)
from services.monitor.alerts.policy.rates import Count
from services.monitor.alerts.policy.signals import Signals

HOUR = 3600.0
BURN_WINDOWS = {"fast": (HOUR, 300.0), "slow": (6 * HOUR, 1800.0)}
"""A long window, and a short one by which the alert ends soon after the burning does."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    labels: Mapping[str, str]
    """What tells it from others of its rule."""
    summary: str
    severity: Severity


Rule = Callable[[Signals, Any], list[Finding] | None]


def evaluate(signals: Signals, options: RuleOptions) -> dict[str, list[Finding]]:
    """The findings of each rule that is enabled and sees its signals."""
    found = {name: rule(signals, getattr(options, name)) for name, rule in RULES.items() if enabled(options, name)}
    return {name: findings for name, findings in found.items() if findings is not None}


def enabled(options: RuleOptions, name: str) -> bool:
    """Whether a rule is switched on."""
    rule: Options = getattr(options, name)
    return rule.enabled


def error_burn(signals: Signals, options: BurnOptions) -> list[Finding] | None:
    """The budget of 5xx is used up too fast."""
    return _burn(signals, options, lambda count: (count.errors, count.requests), "requests failed")


def latency_burn(signals: Signals, options: LatencyOptions) -> list[Finding] | None:
    """Too many first tokens are slow."""
    what = f"first tokens took longer than {options.threshold_s:g} s"
    return _burn(signals, options, lambda count: (count.slow, count.first_tokens), what)


def _burn(
    signals: Signals, options: BurnOptions, parts: Callable[[Count], tuple[int, int]], what: str
) -> list[Finding] | None:
    if signals.desired is None:
        return None
    budget = 1 - options.objective
    findings = []
    for deployment in sorted(signals.desired):
        for speed, (long, short) in BURN_WINDOWS.items():
            factor = getattr(options, speed)
            shares = []
            for window in (long, short):
                bad, all_of_them = parts(signals.windows.get(window, {}).get(deployment, Count()))
                enough = all_of_them >= (options.min_requests if window == long else 1)
                shares.append(bad / all_of_them if enough else 0.0)
            if min(shares) >= factor * budget:
                findings.append(
                    Finding(
                        {"model": deployment, "window": speed},
                        f"{shares[0]:.1%} of the {what} in {long / HOUR:g} h, {shares[1]:.1%} in {short / 60:g} min:"
                        f" {min(shares) / budget:.1f} times what an objective of {options.objective:.1%} allows",
                        options.severity if speed == "fast" else "warning",
                    )
                )
                break  # the slow one says less
    return findings


def queue_growth(signals: Signals, options: QueueOptions) -> list[Finding] | None:
    """A queue grows and does not get shorter."""
    if signals.waiting is None:
        return None
    findings = []
    for deployment, series in sorted(signals.waiting.items()):
        if not series:
            continue
        now, waiting = series[-1]
        begin = now - options.window_s
        early = [value for at, value in series if begin <= at <= begin + options.window_s / 3]
        if not early or waiting < options.waiting:
            continue
        before = sum(early) / len(early)
        if waiting >= options.growth * before:
            findings.append(
                Finding(
                    {"model": deployment},
                    f"{waiting:.0f} requests wait, {before:.1f} did {options.window_s / 60:g} min ago",
                    options.severity,
                )
            )
    return findings


def replica_flapping(signals: Signals, options: FlappingOptions) -> list[Finding] | None:
    """A replica is started again and again."""
    if signals.replicas is None:
        return None
    findings = []
    for replica, seen in sorted(signals.replicas.items()):
        window = [count for at, count in seen.restarts if at >= seen.restarts[-1][0] - options.window_s]
        restarts = window[-1] - window[0] if window else 0
        if restarts >= options.restarts:
            findings.append(
                Finding(
                    {"replica": replica, "model": seen.deployment},
                    f"it was started again {restarts:.0f} times in {options.window_s / 60:g} min",
                    options.severity,
                )
            )
    return findings


def replica_stalled(signals: Signals, options: Options) -> list[Finding] | None:
    """An engine has work and makes no step."""
    if signals.replicas is None:
        return None
    return [
        Finding(
            {"replica": replica, "model": seen.deployment},
            f"its engine has had work and made no step for {seen.stalled_s:.0f} s",
            options.severity,
        )
        for replica, seen in sorted(signals.replicas.items())
        if seen.stalled_s > 0
    ]


def replicas_missing(signals: Signals, options: Options) -> list[Finding] | None:
    """Fewer replicas are ready than there should be."""
    if signals.desired is None or signals.replicas is None:
        return None
    replicas = signals.replicas.values()
    ready = {name: sum(seen.ready and seen.deployment == name for seen in replicas) for name in signals.desired}
    return [
        Finding({"model": name}, f"{ready[name]} of {desired} replicas are ready", options.severity)
        for name, desired in sorted(signals.desired.items())
        if ready[name] < desired
    ]


def no_leader(signals: Signals, options: Options) -> list[Finding] | None:
    """No scheduler leads: nothing is placed, and no dead replica replaced."""
    if signals.has_leader is None:
        return None
    return [] if signals.has_leader else [Finding({}, "no scheduler leads", options.severity)]


def process_down(signals: Signals, options: Options) -> list[Finding] | None:
    """A process was not asked to stop, and sends no heartbeats."""
    return [
        Finding(
            {"service": one.heartbeat.service, "instance": one.heartbeat.instance},
            f"no heartbeat for {one.age:.0f} s",
            options.severity,
        )
        for one in signals.instances
        if not one.up
    ]


def disk_low(signals: Signals, options: DiskOptions) -> list[Finding] | None:
    """A disk is nearly full, or something stopped because of it."""

    def findings() -> Iterator[Finding]:
        for folder, disk in sorted(signals.disks.items()):
            if disk.stopped or (disk.total and disk.free / disk.total < options.free):
                share = disk.free / disk.total if disk.total else 0.0
                stopped = f"; stopped: {', '.join(disk.stopped)}" if disk.stopped else ""
                yield Finding(
                    {"folder": folder}, f"{share:.1%} is free{stopped}", "critical" if stopped else options.severity
                )

    return list(findings())


def memory_near_grant(signals: Signals, options: MemoryOptions) -> list[Finding] | None:
    """A replica uses nearly all of the memory that it was granted."""
    if signals.replicas is None:
        return None
    return [
        Finding(
            {"replica": replica, "model": seen.deployment},
            f"{seen.memory / seen.granted:.0%} of its {seen.granted / (1 << 30):.1f} GiB are resident",
            options.severity,
        )
        for replica, seen in sorted(signals.replicas.items())
        if seen.granted and seen.memory > options.used * seen.granted
    ]


def bus_lag(signals: Signals, options: BusOptions) -> list[Finding] | None:
    """The bus is slow, or the monitor does not keep up with it."""
    findings = []
    if signals.round_trip_s is None:
        findings.append(Finding({"what": "storage"}, "its storage does not answer", options.severity))
    elif signals.round_trip_s > options.round_trip_s:
        findings.append(
            Finding({"what": "storage"}, f"its storage answers after {signals.round_trip_s:.1f} s", options.severity)
        )
    if signals.pending > options.pending:
        findings.append(
            Finding({"what": "telemetry"}, f"{signals.pending} messages of telemetry wait", options.severity)
        )
    return findings


def audit_gap(signals: Signals, options: AuditOptions) -> list[Finding] | None:
    """Events are missing or were altered, or a record was changed without one."""
    if signals.audit is None:
        return None
    return [
        Finding({"chain": chain.chain}, "; ".join(chain.findings[:3]), options.severity)
        for chain in signals.audit.chains
        if chain.findings
    ]


RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        error_burn,
        latency_burn,
        queue_growth,
        replica_flapping,
        replica_stalled,
        replicas_missing,
        no_leader,
        process_down,
        disk_low,
        memory_near_grant,
        bus_lag,
        audit_gap,
    )
}
