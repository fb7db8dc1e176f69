"""What an alert needs is in `/metrics`, and what was refused is found with its reason."""

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.harness.embedded import Embedded, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SERVICES = {"gateway", "inference", "monitor", "registry", "scheduler"}
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture(scope="module")
def client(demo: Embedded) -> Iterator[httpx.Client]:
    with demo.http() as client:
        yield client


def scraped(client: httpx.Client) -> tuple[Samples, dict[str, str]]:
    """Values by name and labels, and the type of each family."""
    samples: Samples = {}
    types = {}
    for family in text_string_to_metric_families(client.get("/metrics").raise_for_status().text):
        types[family.name] = family.type
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples, types


def of(samples: Samples, name: str, label: str) -> dict[str, float]:
    """Values by one label."""
    return {dict(labels)[label]: value for labels, value in samples[name].items()}


def test_the_whole_system_is_in_the_metrics_of_a_gateway(demo: Embedded, client: httpx.Client) -> None:
    demo.ask()
    samples, types = scraped(client)
    smollm2 = (("model", "smollm2"),)
    assert samples["llmos_deployment_replicas_desired"][smollm2] == 1
    assert samples["llmos_deployment_replicas_ready"][smollm2] == 1
    assert samples["llmos_monitor_up"][()] == 1
    assert of(samples, "llmos_process_up", "service").keys() >= SERVICES | {"replica"}
    memory = of(samples, "llmos_process_resident_memory_bytes", "service")
    assert all(10 << 20 < memory[service] < 4 << 30 for service in SERVICES)
    assert of(samples, "llmos_service_starts_total", "service").keys() >= SERVICES
    assert 0 < samples["llmos_bus_round_trip_seconds"][()] < 1
    assert samples["llmos_telemetry_pending_messages"][()] >= 0
    chat = (("method", "POST"), ("model", "smollm2"), ("route", "/v1/chat/completions"), ("status", "200"))
    assert samples["llmos_http_requests_total"][chat] >= 1
    for name in samples:
        family = name.removesuffix("_total")
        if name.endswith("_total"):
            assert types[family] == "counter", name
        elif family in types:
            assert types[family] == "gauge", name


def test_a_killed_service_is_counted_as_a_start(demo: Embedded, client: httpx.Client) -> None:
    import psutil  # noqa: PLC0415  # for this test alone

    before = of(scraped(client)[0], "llmos_service_starts_total", "service")["registry"]
    psutil.Process(demo.pid_of("registry")).kill()
    until(
        lambda: of(scraped(client)[0], "llmos_service_starts_total", "service")["registry"] == before + 1,
        60,
        "one more start of the registry",
    )
    until(lambda: client.get("/llmos/v1/models").is_success, 60, "the registry answers")


def test_a_refused_request_is_found_with_its_reason(demo: Embedded, client: httpx.Client) -> None:
    made = demo.json("key", "create", "traced")
    with httpx.Client(base_url=demo.url, headers={"Authorization": f"Bearer {made['key']}"}) as user:
        refused = user.post("/v1/chat/completions", json={"model": "nothing-here", "messages": []})
        chat = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 99999}
        too_long = user.post("/v1/chat/completions", json=chat)
        good = user.post("/v1/chat/completions", json={**chat, "max_tokens": 4})
    assert (refused.status_code, too_long.status_code, good.status_code) == (400, 400, 200)
    mine = ("--key", made["id"])
    found = until(
        lambda: (listed := demo.json("traces", *mine)) and len(listed) == 3 and listed, 30, "three traces of the key"
    )
    by_id = {trace["trace_id"]: trace for trace in found}
    long = by_id[too_long.headers["x-trace-id"]]
    assert (long["status"], long["model"]) == (400, "smollm2")
    assert "99999" in long["reason"]
    assert by_id[good.headers["x-trace-id"]]["reason"] is None

    def ids(*options: str) -> set[str]:
        return {trace["trace_id"] for trace in demo.json("traces", *mine, *options)}

    assert ids("--status", "4xx", "--model", "smollm2") == {long["trace_id"]}
    assert ids("--status", "200") == {good.headers["x-trace-id"]}
    assert ids("--since", "1d") == set(by_id)
    assert ids("--slower-than", "1h") == set()
    printed = demo.cli("traces", "--status", "error", *mine)
    assert "99999" in printed.stdout
    assert "traces are kept for 24 h, and at most 250000 spans" in printed.stderr
    assert "99999" in demo.cli("trace", long["trace_id"]).stdout
    wrong = demo.cli("traces", "--status", "teapot")
    assert wrong.returncode == 1
    assert "status" in wrong.stderr
    demo.cli("key", "revoke", made["id"])
