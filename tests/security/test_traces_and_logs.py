"""What strangers can write into traces and logs, and push out of them."""

import asyncio
import time

import httpx
import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.gateway.http.middleware import MAX_TEXT
from services.gateway.limits.allowance import Allowance
from shared.telemetry.setup import SPAN_LIMITS
from tests.integration.gateway.conftest import Stand, chat_body
from tests.support.harness.wait import eventually

CHAT = "/v1/chat/completions"
ROOT = f"POST {CHAT}"
OTHERS_TRACE, OTHERS_SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
FLOOD = 400


def roots(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == ROOT]


async def chat_root(stand: Stand, spans: InMemorySpanExporter, headers: dict[str, str]) -> ReadableSpan:
    """The root span of a chat with these headers."""
    await stand.deploy()
    await stand.replica()
    spans.clear()
    answer = await stand.client.post(CHAT, json=chat_body(), headers=headers)
    assert answer.status_code == 200
    await eventually(lambda: roots(spans))
    [root] = roots(spans)
    assert answer.headers["x-trace-id"] == f"{root.context.trace_id:032x}"
    return root


@pytest.mark.parametrize("flags", ["00", "01"])
async def test_a_strangers_trace_context_is_a_link_and_decides_nothing(
    spans: InMemorySpanExporter, stand: Stand, flags: str
) -> None:
    root = await chat_root(stand, spans, {"traceparent": f"00-{OTHERS_TRACE:032x}-{OTHERS_SPAN:016x}-{flags}"})
    assert root.context.trace_id != OTHERS_TRACE
    assert root.parent is None
    [link] = root.links
    assert (link.context.trace_id, link.context.span_id) == (OTHERS_TRACE, OTHERS_SPAN)


@pytest.mark.parametrize("gateway_settings", [{"trust_trace_context": True}])
async def test_a_trusted_trace_context_is_continued(spans: InMemorySpanExporter, stand: Stand) -> None:
    root = await chat_root(stand, spans, {"traceparent": f"00-{OTHERS_TRACE:032x}-{OTHERS_SPAN:016x}-01"})
    assert root.context.trace_id == OTHERS_TRACE
    assert root.parent is not None
    assert root.parent.span_id == OTHERS_SPAN


@pytest.mark.parametrize(
    ("gateway_settings", "address"),
    [
        ({}, "127.0.0.1"),
        ({"trusted_proxies": "10.0.0.0/8, 192.0.2.1"}, "127.0.0.1"),
        ({"trusted_proxies": "127.0.0.0/8"}, "198.51.100.7"),
    ],
)
async def test_x_forwarded_for_is_believed_from_named_proxies_only(
    spans: InMemorySpanExporter, stand: Stand, address: str
) -> None:
    root = await chat_root(stand, spans, {"x-forwarded-for": "198.51.100.7", "x-forwarded-proto": "https"})
    assert root.attributes is not None
    assert root.attributes["client.address"] == address
    assert root.attributes["url.scheme"] == ("https" if address == "198.51.100.7" else "http")


async def test_a_flood_of_refusals_is_counted_and_neither_traced_nor_logged_one_by_one(
    spans: InMemorySpanExporter, stand: Stand
) -> None:
    await stand.deploy()
    await stand.replica()
    spans.clear()
    long = "x" * 4000
    began = time.monotonic()
    with structlog.testing.capture_logs() as lines:
        async with httpx.AsyncClient(base_url=stand.url) as stranger:
            for number in range(FLOOD // 4):
                for path in (CHAT, f"/v1/{long}", "/llmos/v1/keys", f"/v1/files/{long}"):
                    answer = await stranger.post(path, content=b"{}", headers={"user-agent": f"{number}{long}"})
                    assert answer.status_code in (401, 404)
        chat = await stand.chat()
        assert chat.status_code == 200
        trace_id = int(chat.headers["x-trace-id"], 16)
        await eventually(lambda: trace_id in [span.context.trace_id for span in roots(spans)])
    allowed = 20 + 2 * (time.monotonic() - began) + 1
    refused = [span for span in spans.get_finished_spans() if (span.attributes or {}).get("error.type")]
    assert 1 <= len(refused) <= allowed
    ended = [line for line in lines if line["event"] == "request.ended" and line["status"] != 200]
    assert 1 <= len(ended) <= allowed
    for span in spans.get_finished_spans():
        assert all(len(value) <= MAX_TEXT for value in (span.attributes or {}).values() if isinstance(value, str))
        assert len(span.name) <= MAX_TEXT + 10
    for line in lines:
        assert all(len(value) <= MAX_TEXT for value in line.values() if isinstance(value, str))
    metrics = (await stand.client.get("/metrics")).text
    lines_of = [line for line in metrics.splitlines() if line.startswith("llmos_http_requests_total{")]
    counted = [line for line in lines_of if 'status="401"' in line or 'status="404"' in line]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in counted) >= FLOOD


async def test_a_model_name_of_a_megabyte_is_cut_in_spans_logs_and_the_error(
    spans: InMemorySpanExporter, stand: Stand
) -> None:
    spans.clear()
    with structlog.testing.capture_logs() as lines:
        answer = await stand.chat(model="m" * (1 << 20))
        assert answer.status_code == 404
        assert len(answer.content) < 1000
        await eventually(lambda: roots(spans))
    assert all(len(span.name) < 300 for span in spans.get_finished_spans())
    assert all(len(str(line)) < 2000 for line in lines)


async def test_who_made_and_revoked_keys_outlives_every_flood(stand: Stand) -> None:
    made = (await stand.client.post("/llmos/v1/keys", json={"name": "laptop", "scopes": ["inference"]})).json()
    await stand.client.delete(f"/llmos/v1/keys/{made['id']}")
    async with httpx.AsyncClient(base_url=stand.url) as stranger:
        await asyncio.gather(*(stranger.post(CHAT, content=b"{}") for _ in range(50)))

    async def events() -> list[tuple[str, str]]:
        answer = await stand.client.get("/llmos/v1/keys/events?limit=1000")
        assert answer.status_code == 200, answer.text
        found = answer.json()["events"]
        assert all(event["actor"] for event in found)
        return [(event["kind"], event["detail"]["name"]) for event in found if event["name"] == made["id"]]

    async def stored() -> bool:
        return await events() == [("key.revoked", "laptop"), ("key.created", "laptop")]

    await eventually(stored)


async def test_key_events_need_the_scope_to_read_and_a_sensible_limit(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url) as stranger:
        assert (await stranger.get("/llmos/v1/keys/events")).status_code == 401
    for limit in ("0", "1001", "x"):
        answer = await stand.client.get(f"/llmos/v1/keys/events?limit={limit}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")


def test_an_allowance_gives_a_burst_then_a_rate_and_says_what_it_passed_over() -> None:
    allowance = Allowance(burst=3, per_s=2.0)
    assert [allowance.take(10.0) for _ in range(6)] == [0, 0, 0, None, None, None]
    assert allowance.take(10.5) == 3
    assert allowance.take(10.5) is None
    assert [allowance.take(1000.0) for _ in range(4)] == [1, 0, 0, None]


def test_every_services_spans_have_bounds() -> None:
    tracer = TracerProvider(shutdown_on_exit=False, span_limits=SPAN_LIMITS).get_tracer("llmos.test")
    with tracer.start_as_current_span("work") as span:
        span.set_attribute("text", "x" * 10_000)
        for number in range(1000):
            span.set_attribute(f"name-{number}", "x")
    assert isinstance(span, ReadableSpan)
    assert span.attributes is not None
    assert len(span.attributes) <= 64
    assert max(len(str(value)) for value in span.attributes.values()) <= 256
