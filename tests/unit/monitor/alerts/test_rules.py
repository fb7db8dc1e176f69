"""What each rule finds, and what it does not."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from services.monitor.alerts.policy.options import BusOptions, RuleOptions
from services.monitor.alerts.policy.rates import STEP_S, Count, Rates
from services.monitor.alerts.policy.rules import RULES, Finding, evaluate
from services.monitor.alerts.policy.signals import ReplicaSignals, Signals
from shared.contracts.events import AuditReport, ChainReport
from shared.contracts.monitor import DiskSpace, Heartbeat, InstanceHealth

FIVE, HALF, HOUR, SIX = 300.0, 1800.0, 3600.0, 6 * 3600.0
FINE = Signals(
    desired={"chat": 1},
    replicas={"r1": ReplicaSignals("chat", ready=True, memory=1, granted=100, restarts=[(0, 0)])},
    waiting={"chat": [(0, 0)]},
    has_leader=True,
    round_trip_s=0.001,
    audit=AuditReport(chains=(ChainReport(chain="keys", events=1),)),
)


def findings(rule: str, options: RuleOptions | None = None, **changes: object) -> list[Finding]:
    return evaluate(replace(FINE, **changes), options or RuleOptions())[rule]  # type: ignore[arg-type]


def windows(**shares: tuple[int, int]) -> Mapping[float, Mapping[str, Count]]:
    """Errors and requests in five minutes, half an hour, one and six hours."""
    seconds = {"five": FIVE, "half": HALF, "hour": HOUR, "six": SIX}
    return {
        seconds[name]: {"chat": Count(requests=total, errors=bad, first_tokens=total, slow=bad)}
        for name, (bad, total) in shares.items()
    }


def replica(**changes: object) -> dict[str, ReplicaSignals]:
    given: dict[str, object] = {
        "deployment": "chat",
        "ready": True,
        "memory": 1,
        "granted": 100,
        "restarts": [(0.0, 0.0)],
    }
    return {"r1": ReplicaSignals(**{**given, **changes})}  # type: ignore[arg-type]


def test_nothing_is_found_where_all_is_well() -> None:
    found = evaluate(FINE, RuleOptions())
    assert found.keys() == RULES.keys()
    assert not any(found.values())


def test_every_rule_has_options_and_a_switch() -> None:
    assert RULES.keys() == RuleOptions.model_fields.keys()
    off = RuleOptions.model_validate({name: {"enabled": False} for name in RULES})
    assert evaluate(FINE, off) == {}


def test_rules_that_can_not_see_their_signals_say_so() -> None:
    seen = evaluate(Signals(), RuleOptions()).keys()
    assert seen == {"process_down", "disk_low", "bus_lag"}


@pytest.mark.parametrize("rule", ["error_burn", "latency_burn"])
def test_a_budget_burns_fast_in_an_hour_and_five_minutes(rule: str) -> None:
    bad = 200 if rule == "error_burn" else 800  # 20 % of 1 % and 80 % of 5 % allowed
    burning = windows(hour=(bad, 1000), five=(bad // 10, 100), six=(bad, 6000), half=(bad, 1000))
    (found,) = findings(rule, windows=burning)
    assert (found.labels, found.severity) == ({"model": "chat", "window": "fast"}, "critical")
    over = windows(hour=(bad, 1000), five=(0, 100), six=(0, 6000), half=(0, 1000))
    assert findings(rule, windows=over) == [], "the short window says that it is over"
    begun = windows(hour=(1, 1000), five=(bad // 10, 100), six=(1, 6000), half=(1, 500))
    assert findings(rule, windows=begun) == [], "a blip is no hour"


def test_a_budget_burns_slowly_in_six_hours() -> None:
    slow = windows(hour=(70, 1000), five=(7, 100), six=(420, 6000), half=(35, 500))
    (found,) = findings("error_burn", windows=slow)
    assert (found.labels["window"], found.severity) == ("slow", "warning")


def test_few_requests_and_names_that_are_no_deployment_say_nothing() -> None:
    few = windows(hour=(5, 5), five=(5, 5), six=(5, 5), half=(5, 5))
    assert findings("error_burn", windows=few) == []
    invented = {window: {"invented": Count(requests=100, errors=100)} for window in (FIVE, HALF, HOUR, SIX)}
    assert findings("error_burn", windows=invented) == []


def test_a_queue_grows_when_more_wait_than_before() -> None:
    growing = [(float(at), at / 10) for at in range(0, 301, 5)]
    (found,) = findings("queue_growth", waiting={"chat": growing})
    assert found.labels == {"model": "chat"}
    assert found.summary.startswith("30 requests wait, 5.0 did 5 min ago")
    steady = [(float(at), 30.0) for at in range(0, 301, 5)]
    assert findings("queue_growth", waiting={"chat": steady}) == []
    short = [(float(at), at / 100) for at in range(0, 301, 5)]
    assert findings("queue_growth", waiting={"chat": short}) == []
    young = [(float(at), 30.0) for at in (295, 300)]
    assert findings("queue_growth", waiting={"chat": young}) == [], "there is no earlier to compare with"


def test_a_replica_flaps_when_it_restarts_often_in_the_window() -> None:
    often = [(0.0, 4.0), (100.0, 5.0), (200.0, 7.0)]
    (found,) = findings("replica_flapping", replicas=replica(restarts=often))
    assert found.labels == {"replica": "r1", "model": "chat"}
    assert found.summary == "it was started again 3 times in 15 min"
    long_ago = [(0.0, 0.0), (500.0, 3.0), (1600.0, 3.0)]
    assert findings("replica_flapping", replicas=replica(restarts=long_ago)) == []


def test_an_engine_without_steps_a_missing_replica_and_one_near_its_grant() -> None:
    (stalled,) = findings("replica_stalled", replicas=replica(stalled_s=7.0))
    assert stalled.summary == "its engine has had work and made no step for 7 s"
    (missing,) = findings("replicas_missing", replicas=replica(ready=False))
    assert missing.summary == "0 of 1 replicas are ready"
    (full,) = findings("memory_near_grant", replicas=replica(memory=96 << 30, granted=100 << 30))
    assert full.summary == "96% of its 100.0 GiB are resident"
    assert findings("memory_near_grant", replicas=replica(memory=96 << 30, granted=0)) == []


def test_no_leader_a_silent_process_a_full_disk() -> None:
    assert [one.severity for one in findings("no_leader", has_leader=False)] == ["critical"]
    silent = InstanceHealth(heartbeat=Heartbeat.EXAMPLE, age=12.0, up=False)
    (down,) = findings("process_down", instances=(silent,))
    assert down.labels == {"service": "registry", "instance": "registry-3f2a"}
    (low,) = findings("disk_low", disks={"/a": DiskSpace(folder="/a", free=10, total=100)})
    assert (low.summary, low.severity) == ("10.0% is free", "warning")
    stopped = DiskSpace(folder="/a", free=50, total=100, stopped=("telemetry",))
    (critical,) = findings("disk_low", disks={"/a": stopped})
    assert (critical.summary, critical.severity) == ("50.0% is free; stopped: telemetry", "critical")


def test_a_bus_that_is_slow_silent_or_not_kept_up_with() -> None:
    assert [one.labels["what"] for one in findings("bus_lag", round_trip_s=2.0)] == ["storage"]
    assert [one.labels["what"] for one in findings("bus_lag", round_trip_s=None, pending=20_000)] == [
        "storage",
        "telemetry",
    ]
    quick = RuleOptions(bus_lag=BusOptions(round_trip_s=0.0001))
    assert len(findings("bus_lag", quick)) == 1


def test_a_gap_in_a_chain_of_events() -> None:
    broken = AuditReport(chains=(ChainReport(chain="keys", events=1, findings=("event 2 is missing",)),))
    (found,) = findings("audit_gap", audit=broken)
    assert (found.labels, found.summary, found.severity) == ({"chain": "keys"}, "event 2 is missing", "critical")


def test_windows_slide_and_forget() -> None:
    rates, now = Rates(slow_s=1.0), 100_000.0
    rates.request("chat", 500, now)
    rates.request("chat", 200, now)
    rates.request("chat", 429, now)
    rates.first_token("chat", 0.5, now)
    rates.first_token("chat", 1.5, now)
    assert rates.over(FIVE, now) == {"chat": Count(requests=3, errors=1, first_tokens=2, slow=1)}
    assert rates.over(FIVE, now + FIVE + STEP_S) == {}
    assert rates.over(HOUR, now + FIVE + STEP_S)["chat"].requests == 3
    rates.request("chat", 200, now + 7 * HOUR)
    assert rates.over(SIX, now + 7 * HOUR) == {"chat": Count(requests=1)}
    assert len(rates._steps) == 1
