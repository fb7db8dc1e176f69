"""What Prometheus and Grafana are given names what exists: metrics, labels, addresses."""

import json
import re

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.make_secrets import complete
from services.gateway.limits.places import Places
from services.gateway.metrics import Ended, Metrics
from shared.contracts.gateway import Usage
from shared.contracts.load import LoadReport
from tests.support.harness.compose import ROOT, compose, dotenv

FOLDER = ROOT / "deploy/metrics"
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/llmos.json").read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
_METRIC = re.compile(r"\bllmos_\w+")


def samples() -> dict[str, set[str]]:
    """The labels of each sample that a gateway shows once a request was answered."""
    metrics = Metrics()
    metrics.show_replicas(lambda: [LoadReport.EXAMPLE], lambda: True)
    metrics.show_connections(Places(10, 10, ()))
    metrics.began()
    metrics.ended(Ended("POST", "/v1/chat/completions", 503, 0.5, model="m", code="unavailable"))
    metrics.first_token("m", 0.1)
    metrics.next_tokens("m", [0.01])
    metrics.tokens("m", Usage(prompt_tokens=1, completion_tokens=1), "key-a")
    metrics.resumed("m")
    metrics.refused("m", "overloaded")
    families = text_string_to_metric_families(metrics.render().decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_that_exist(query):
    known = samples()
    names = _METRIC.findall(query)
    assert names
    for name in names:
        assert name in known
        for group in re.findall(r"by \(([^)]*)\)", query):
            assert {label.strip() for label in group.split(",")} <= known[name], name


@pytest.mark.parametrize("query", QUERIES)
def test_a_counter_is_shown_as_a_rate_and_nothing_else_is(query):
    for name in _METRIC.findall(query):
        counts = name.endswith(("_total", "_bucket"))
        assert (f"rate({name}" in query) == counts, name


def test_legends_use_labels_that_their_query_leaves():
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            left = {
                label.strip() for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(",")
            }
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left, target


def test_every_panel_asks_the_source_that_is_provisioned():
    (source,) = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    services = compose(dotenv(complete("")))["services"]
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert host in services
    assert services[host]["ports"][0].endswith(f":{port}")


def test_dashboards_are_read_from_where_they_are_mounted():
    (provider,) = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/llmos.yml").read_text())["providers"]
    mounts = dict(mount.split(":")[:2] for mount in compose(dotenv(complete("")))["services"]["grafana"]["volumes"])
    assert mounts["./deploy/metrics/grafana/dashboards"] == provider["options"]["path"]


def test_prometheus_asks_each_gateway():
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    (discovered,) = job["dns_sd_configs"]
    services = compose(dotenv(complete("")))["services"]
    assert discovered["names"] == ["gateway"]
    assert str(discovered["port"]) == services["gateway"]["environment"]["LLMOS_GATEWAY_PORT"]
    assert job["authorization"] == {"credentials_file": f"/run/secrets/{services['prometheus']['secrets'][0]}"}
    assert set(services["prometheus"]["networks"]) & set(services["gateway"]["networks"])
