"""The span that says when a gateway could route to a new replica."""

from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.gateway.routing import seen_replicas
from services.gateway.routing.seen_replicas import SeenReplicas
from shared.contracts.load import LoadReport
from shared.contracts.origin import Origin
from shared.contracts.scheduler import Deployment, ReplicaState, ReplicaStatus

TRACE = "0af7651916cd43dd8448eb211c80319c"
ORIGIN = Origin(traceparent=f"00-{TRACE}-b7ad6b7169203331-01", at=datetime.now(UTC))


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(seen_replicas, "_tracer", provider.get_tracer("test"))
    return exporter


def status(state: ReplicaState) -> dict[str, ReplicaStatus]:
    return {"r1": ReplicaStatus.EXAMPLE.model_copy(update={"id": "r1", "deployment": "chat", "state": state})}


REPORT = LoadReport.EXAMPLE.model_copy(update={"replica_id": "r1"})
DEPLOYMENT = Deployment.EXAMPLE.model_copy(update={"name": "chat", "origin": ORIGIN})


def test_a_replica_that_becomes_ready_is_seen_once_in_the_trace_of_its_deployment(
    spans: InMemorySpanExporter,
) -> None:
    seen = SeenReplicas(lambda: {"chat": DEPLOYMENT})
    seen.set_replicas(status(ReplicaState.LOADING))
    seen.report(REPORT, 1.0)
    assert spans.get_finished_spans() == ()
    seen.set_replicas(status(ReplicaState.READY))
    for _ in range(3):
        seen.report(REPORT, 2.0)
    (span,) = spans.get_finished_spans()
    assert (span.name, f"{span.context.trace_id:032x}") == ("route to chat", TRACE)


def test_replicas_from_before_the_gateway_started_are_not_news(spans: InMemorySpanExporter) -> None:
    seen = SeenReplicas(lambda: {"chat": DEPLOYMENT})
    seen.set_replicas(status(ReplicaState.READY))
    seen.report(REPORT, 1.0)
    assert spans.get_finished_spans() == ()
