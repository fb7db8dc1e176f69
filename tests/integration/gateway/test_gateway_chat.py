"""Chat and completions through a real gateway, over HTTP."""

import asyncio

import orjson
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.errors import ContextLengthExceeded, Internal, Overloaded
from tests.integration.gateway.conftest import MODEL, Stand, chat_body
from tests.support.fakes.scripted_tokens import expected_text
from tests.support.harness.wait import eventually

WHOLE = expected_text("tell me words", 7, 6)


def events(text: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [orjson.loads(line) for line in lines if line != "[DONE]"]


async def test_a_chat_is_answered_with_text_finish_reason_and_usage(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    answer = await stand.chat()
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == MODEL
    assert body["system_fingerprint"] == "sample:1"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": WHOLE, "refusal": None}
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["prompt_tokens"] == 3
    assert body["usage"]["completion_tokens"] == 6
    assert body["usage"]["total_tokens"] == 9
    assert len(answer.headers["x-trace-id"]) == 32
    assert answer.headers["x-request-id"].startswith("req-")


async def test_a_streamed_chat_is_the_same_text_in_pieces_and_ends_with_done(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    answer = await stand.chat(stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.rstrip().endswith("data: [DONE]")
    chunks = events(answer.text)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]) == WHOLE
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 9
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_the_content_of_an_answer_that_may_call_tools_is_null_until_there_is_text(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    tools = [{"type": "function", "function": {"name": "f"}}]
    chunks = events((await stand.chat(stream=True, tools=tools)).text)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == WHOLE
    chunks = events((await stand.chat(stream=True, tools=tools, tool_choice="none")).text)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


async def test_a_stream_carries_no_usage_unless_asked_for(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    answer = await stand.chat(stream=True)
    assert all("usage" not in chunk for chunk in events(answer.text))


async def test_several_prompts_get_several_choices(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    body = {"model": MODEL, "prompt": ["one", "two three"], "seed": 3, "max_tokens": 4}
    answer = (await stand.client.post("/v1/completions", json=body)).json()
    assert [choice["text"] for choice in answer["choices"]] == [
        expected_text("one", 3, 4),
        expected_text("two three", 3, 4),
    ]
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 8,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    streamed = await stand.client.post("/v1/completions", json={**body, "stream": True})
    texts = ["", ""]
    for chunk in events(streamed.text):
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert texts == [choice["text"] for choice in answer["choices"]]


async def test_when_one_of_several_prompts_fails_the_others_are_cancelled(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica(token_delay=0.05)
    replica.fail_at = (1, ContextLengthExceeded("the prompt is too long", param="prompt"))
    body = {"model": MODEL, "prompt": ["one", "two"], "max_tokens": 1000}
    answer = await stand.client.post("/v1/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    await eventually(lambda: replica.running == 0)
    replica.fail_at = (1, Internal("broken"))
    streamed = await stand.client.post("/v1/completions", json={**body, "stream": True})
    assert events(streamed.text)[-1]["error"]["code"] == "internal"
    await eventually(lambda: replica.running == 0)


async def test_token_ids_are_a_prompt(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    answer = await stand.client.post("/v1/completions", json={"model": MODEL, "prompt": [5, 6, 7]})
    assert answer.status_code == 200
    assert replica.received[-1].prompt_token_ids == (5, 6, 7)
    assert replica.received[-1].sampling.max_tokens == 16


async def test_sampling_reaches_the_replica(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    await stand.chat(
        temperature=0, top_p=0.5, top_k=3, stop="END", max_completion_tokens=2, max_tokens=9, ignore_eos=True
    )
    sampling = replica.received[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stop) == (0.0, 0.5, 3, ("END",))
    assert (sampling.max_tokens, sampling.seed, sampling.ignore_eos) == (2, 7, True)


async def test_a_seed_is_drawn_where_none_is_given(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    await stand.chat(seed=None)
    await stand.chat(seed=None)
    first, second = (request.sampling.seed for request in replica.received[-2:])
    assert first != second


async def test_a_request_goes_to_the_replica_with_the_least_work(stand: Stand) -> None:
    await stand.deploy(replicas=2)
    busy = await stand.replica("sample-1-a")
    idle = await stand.replica("sample-1-b")
    busy.queued_tokens = 5000
    await busy.heartbeat()

    async def goes_to_idle() -> bool:
        before = len(idle.received)
        await stand.chat()
        return len(idle.received) == before + 1

    await eventually(goes_to_idle)
    count = len(busy.received)
    await stand.chat()
    assert len(busy.received) == count


async def test_a_full_replica_passes_the_request_on_to_the_next(stand: Stand) -> None:
    await stand.deploy(replicas=2)
    first = await stand.replica("sample-1-a")
    second = await stand.replica("sample-1-b")
    first.rejection = Overloaded("full", retry_after=3)
    for _ in range(3):
        assert (await stand.chat()).status_code == 200
    assert len(second.received) == 3


async def test_when_all_replicas_are_full_the_answer_is_429_with_retry_after(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.rejection = Overloaded("the queue is full", retry_after=3.2)
    answer = await stand.chat(stream=True)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "4"
    assert answer.json()["error"]["code"] == "overloaded"


async def test_a_deployment_without_a_ready_replica_is_503_and_says_why(stand: Stand) -> None:
    await stand.deploy()
    answer = await stand.chat()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "no replica is placed" in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_replicas_slot(stand: Stand, stream: bool) -> None:
    await stand.deploy()
    replica = await stand.replica(token_delay=0.05)
    task = asyncio.create_task(stand.chat(max_tokens=10_000, stream=stream))
    await eventually(lambda: replica.running == 1)
    task.cancel()
    await eventually(lambda: replica.running == 0, timeout=5)
    assert replica.cancelled == [replica.received[-1].request_id]


async def test_a_finished_request_is_not_cancelled(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    await stand.chat()
    await stand.chat(stream=True)
    await eventually(lambda: replica.running == 0)
    assert replica.cancelled == []


async def test_a_stream_that_fails_midway_ends_with_an_error_event(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.fail_at = (3, Internal("the engine broke; id 1234"))
    answer = await stand.chat(stream=True)
    assert answer.status_code == 200
    assert "event: error" in answer.text
    assert "[DONE]" not in answer.text
    assert events(answer.text)[-1]["error"]["message"] == "the engine broke; id 1234"


async def test_a_failure_without_a_stream_is_an_http_error(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.fail_at = (3, Internal("the engine broke; id 1234"))
    answer = await stand.chat()
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"


async def test_a_prompt_of_five_megabytes_arrives(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    text = "lorem ipsum " * (5 * 1024 * 1024 // 12)
    answer = await stand.chat(messages=[{"role": "user", "content": text}])
    assert answer.status_code == 200
    assert replica.received[-1].messages is not None
    assert replica.received[-1].messages[0].content == text


async def test_a_body_above_the_limit_is_413(stand: Stand) -> None:
    answer = await stand.client.post("/v1/chat/completions", content=b" " * (17 << 20))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "payload_too_large"


async def test_sixteen_streams_at_once_get_each_their_own_text(stand: Stand) -> None:
    await stand.deploy(replicas=2)
    await stand.replica("sample-1-a")
    await stand.replica("sample-1-b")
    answers = await asyncio.gather(
        *(stand.chat(stream=True, seed=n, messages=[{"role": "user", "content": f"question {n}"}]) for n in range(16))
    )
    for n, answer in enumerate(answers):
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in events(answer.text))
        assert text == expected_text(f"question {n}", n, 6)


@pytest.mark.parametrize("gateway_settings", [{"trust_trace_context": True}])
async def test_one_trace_holds_request_routing_and_dispatch(spans: InMemorySpanExporter, stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    spans.clear()
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    for stream in (False, True):
        answer = await stand.client.post(
            "/v1/chat/completions",
            json=chat_body(stream=stream),
            headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "x-request-id": "mine-1"},
        )
        assert answer.headers["x-trace-id"] == trace_id
        assert answer.headers["x-request-id"] == "mine-1"
        await eventually(lambda: "POST /v1/chat/completions" in [s.name for s in spans.get_finished_spans()])
        by_name = {span.name: span for span in spans.get_finished_spans()}
        root, chat, route = by_name["POST /v1/chat/completions"], by_name["chat sample"], by_name["route"]
        assert {span.context.trace_id for span in by_name.values()} == {int(trace_id, 16)}
        assert root.parent is not None
        assert root.parent.span_id == 0xB7AD6B7169203331
        assert chat.parent == root.context
        assert route.parent == chat.context
        assert root.attributes is not None
        assert root.attributes["http.response.status_code"] == 200
        assert chat.attributes is not None
        assert chat.attributes["gen_ai.usage.output_tokens"] == 6
        assert chat.attributes["gen_ai.response.finish_reasons"] == ("length",)
        assert chat.attributes["llmos.replica"] == replica.id
        parent = trace.get_current_span(replica.contexts[-1]).get_span_context()
        assert parent.trace_id == int(trace_id, 16)
        spans.clear()


async def test_requests_that_only_look_leave_no_trace(spans: InMemorySpanExporter, stand: Stand) -> None:
    spans.clear()
    for path in ("/healthz", "/metrics", "/llmos/v1/keys"):
        answer = await stand.client.get(path)
        assert len(answer.headers["x-trace-id"]) == 32
    assert spans.get_finished_spans() == ()
