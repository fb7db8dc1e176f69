"""One trace shows a deployment's whole way, and its events lead to that trace."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness.embedded import Embedded
from tests.support.harness.wait import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WAY = {
    "POST /llmos/v1/deployments",
    "scheduler deploy",
    "registry resolve_model",
    "place smollm2",
    "fetch smollm2",
    "start smollm2",
    "load",
    "warm up",
    "smoke test",
    "route to smollm2",
}


def spans_of(system: Embedded, trace_id: str) -> list[dict[str, Any]]:
    document = json.loads(system.cli("trace", trace_id, "--json").stdout)
    return [
        span for resource in document["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]
    ]


def test_the_trace_of_a_deployment_leads_from_the_request_to_the_first_route(tmp_path: Path) -> None:
    with Embedded(tmp_path, demo=True) as system:
        (created,) = json.loads(system.cli("events", "--kind", "deployment.created", "--json").stdout)
        trace_id = created["trace_id"]

        def names() -> set[str]:
            return {span["name"] for span in spans_of(system, trace_id)}

        asyncio.run(eventually(lambda: names() >= WAY, timeout=30))
        spans = spans_of(system, trace_id)
        ids = {span["spanId"] for span in spans}
        assert all(
            span.get("parentSpanId", "") in ids for span in spans if span["name"] != "POST /llmos/v1/deployments"
        )
        (place,) = [span for span in spans if span["name"] == "place smollm2"]
        said = {pair["key"]: pair["value"] for pair in place["attributes"]}
        assert said["llmos.node"] == {"stringValue": "local"}
        assert int(said["llmos.granted.memory"]["intValue"]) > 0

        os.kill(system.pid_of("replica"), signal.SIGKILL)
        asyncio.run(eventually(lambda: "restart smollm2" in names(), timeout=60))
