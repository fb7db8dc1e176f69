"""What holds in every dialect: traces and metrics name a request's model, and a refusal says when to retry."""

from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.errors import Overloaded
from shared.telemetry import genai
from tests.integration.gateway.conftest import MODEL, Stand

HELLO = {"role": "user", "content": "hi"}
GENERATING: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [HELLO]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [HELLO], "max_tokens": 2},
    "/api/chat": {"messages": [HELLO], "stream": False},
    "/api/generate": {"prompt": "hi", "stream": False},
}
"""Routes that generate, with a body but for its model."""
ASKING: dict[str, dict[str, Any]] = {
    **GENERATING,
    "/v1/embeddings": {"input": "hi"},
    "/v1/classify": {"input": "hi"},
    "/v1/rerank": {"query": "hi", "documents": ["there"]},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [1]},
    "/v1/messages/count_tokens": {"messages": [HELLO]},
    "/api/embed": {"input": "hi"},
    "/api/embeddings": {"prompt": "hi"},
    "/api/show": {},
}
"""All routes to a model whose body is JSON."""


async def test_the_trace_and_the_metrics_of_a_request_name_its_model(
    stand: Stand, spans: InMemorySpanExporter
) -> None:
    await stand.deploy()
    await stand.replica()
    for path, body in ASKING.items():
        spans.clear()
        answer = await stand.client.post(path, json={"model": MODEL, **body})
        if path in GENERATING:
            assert answer.status_code == 200, answer.text
        (root,) = [span for span in spans.get_finished_spans() if span.name == f"POST {path}"]
        assert (root.attributes or {}).get(genai.REQUEST_MODEL) == MODEL, path
        metrics = (await stand.client.get("/metrics")).text
        counted = f'model="{MODEL}",route="{path}",status="{answer.status_code}"}} 1.0'
        assert f'llmos_http_requests_total{{method="POST",{counted}' in metrics, path


@pytest.mark.parametrize("path", GENERATING)
async def test_a_refusal_for_overload_says_in_how_many_seconds_to_try_again(stand: Stand, path: str) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.rejection = Overloaded("full", retry_after=6.2)
    answer = await stand.client.post(path, json={"model": MODEL, **GENERATING[path]})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7"), answer.text
    error = answer.json()["error"]
    message = error if isinstance(error, str) else error["message"]
    assert message.endswith("try again in 7 s")
