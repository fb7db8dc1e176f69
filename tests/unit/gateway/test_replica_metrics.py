"""Every field of a load report is a metric."""

from dataclasses import asdict

from services.gateway.metrics import Metrics
from shared.contracts.load import EngineLoad, LoadReport


def test_each_field_of_the_load_is_a_gauge_and_each_counter_a_counter_with_its_help():
    metrics = Metrics()
    metrics.show_replicas(lambda: [LoadReport.EXAMPLE], lambda: True)
    text = metrics.render().decode()
    load = EngineLoad.EXAMPLE
    gauges = {name: value for name, value in load if name not in ("counters", "wait_s", "stalled_s")} | {
        "wait_seconds": load.wait_s,
        "stalled_seconds": load.stalled_s,
    }
    labels = '{model="smollm2",replica="smollm2-1-x7k2"}'
    for name, value in gauges.items():
        assert f"\nllmos_replica_{name}{labels} {float(value)}\n" in text
        assert f"# TYPE llmos_replica_{name} gauge\n" in text
    for name, value in asdict(load.counters).items():
        assert f"\nllmos_replica_{name}_total{labels} {float(value)}\n" in text
        assert f"# TYPE llmos_replica_{name}_total counter\n" in text
    assert "# HELP llmos_replica_accepted_tokens_total Draft tokens accepted;" in text
