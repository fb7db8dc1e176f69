"""Messages and Ollama's API in front of real request handlers: calls, counts, vectors, what the tables say."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import ollama
import pytest
import pytest_asyncio

from deploy.make_api_tables import operations
from services.gateway.http.operation import Operation
from shared.text.tokenizer import Tokenizer
from tests.support.harness.memory_system import DECODER, EMBEDDER, MAX_LEN, MemorySystem, memory_system
from tests.support.models.chat_templates import QWEN2
from tests.support.models.small_tokenizers import byte_level

pytestmark = pytest.mark.asyncio(loop_scope="module")
HELLO = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"model": DECODER, "max_tokens": 1, "messages": [HELLO]},
    "/v1/messages/count_tokens": {"model": DECODER, "messages": [HELLO]},
    "/api/chat": {"model": DECODER, "messages": [HELLO], "stream": False, "options": {"num_predict": 1}},
    "/api/generate": {"model": DECODER, "prompt": "hi", "stream": False, "options": {"num_predict": 1}},
    "/api/embed": {"model": EMBEDDER, "input": "hi"},
    "/api/embeddings": {"model": EMBEDDER, "prompt": "hi"},
    "/api/show": {"model": DECODER},
    **{
        f"/v2/models/{{model}}{version}/infer": {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hi"]}],
            "outputs": [{"name": "embedding"}],
        }
        for version in ("", "/versions/{version}")
    },
}
TAKERS = [
    each
    for dialect, routes in operations().items()
    if not dialect.startswith("OpenAI")
    for each in routes
    if each.parameters
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system() -> AsyncIterator[MemorySystem]:
    async with memory_system(Tokenizer(byte_level()), QWEN2) as running:
        yield running


async def test_a_tool_is_called_and_its_result_goes_back(system: MemorySystem) -> None:
    tools: list[Any] = [{"name": "weather", "description": "d", "input_schema": SCHEMA}]
    async with anthropic.AsyncAnthropic(base_url=str(system.client.base_url), api_key="none") as client:
        messages: list[Any] = [HELLO]
        for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
            one = {**choice, "disable_parallel_tool_use": True}  # a random model may call until its tokens end
            common: dict[str, Any] = {"model": DECODER, "tools": tools, "tool_choice": one, "messages": messages}
            async with client.messages.stream(**common, max_tokens=200) as stream:
                answer = await stream.get_final_message()
            assert answer.stop_reason == "tool_use"
            calls = [block for block in answer.content if block.type == "tool_use"]
            assert {str(call.input["city"]) for call in calls} <= {"Paris", "Rome"}
            counted = await client.messages.count_tokens(**common)
            assert counted.input_tokens == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
            results = [{"type": "tool_result", "tool_use_id": call.id, "content": "warm"} for call in calls]
            messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
        whole = await client.messages.create(**{**common, "messages": messages}, max_tokens=200)
        assert whole.content[-1].type == "tool_use"
        assert len(calls) == 1


async def test_what_does_not_fit_is_cut_and_a_prompt_that_is_too_long_is_named(system: MemorySystem) -> None:
    body = {**BODIES["/v1/messages"], "max_tokens": 32000, "temperature": 0}
    answer = (await system.client.post("/v1/messages", json=body)).json()
    if answer["stop_reason"] != "end_turn":
        assert answer["stop_reason"] == "model_context_window_exceeded"
    long = await system.client.post("/v1/messages", json={**body, "messages": [{**HELLO, "content": "x " * 9000}]})
    assert long.status_code == 400
    assert long.json()["error"]["message"].startswith(
        f"prompt is too long: This model's maximum context length is {MAX_LEN}"
    )


async def test_ollamas_client_calls_tools_and_sends_their_results(system: MemorySystem) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    called = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]}
    result = {"role": "tool", "tool_name": "weather", "content": "warm"}
    async with ollama.AsyncClient(str(system.client.base_url)) as client:
        options = {"num_predict": 8, "seed": 1}
        answer = await client.chat(DECODER, [HELLO, called, result], tools=tools, options=options)
        assert answer.eval_count is not None
        assert answer.eval_count <= 8
        vectors = await client.embed(EMBEDDER, ["one", "two"], dimensions=4)
        assert [len(vector) for vector in vectors.embeddings] == [4, 4]
        assert len((await client.embeddings(EMBEDDER, "one")).embedding) == 8
        shown = await client.show(DECODER)
        assert shown.template == QWEN2
        assert shown.capabilities == ["completion", "tools"]
        assert (await client.show(f"{EMBEDDER}:latest")).capabilities == ["embedding"]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([HELLO, {"role": "tool", "content": "warm", "tool_name": "weather"}], "messages.1 is a result, but no call"),
        ([{**HELLO, "images": ["aGk="]}], "messages.0.images: images are not supported"),
        ([{**HELLO, "tool_calls": [{"function": {"name": "f"}}]}], "messages.0.tool_calls belong to messages of the"),
        ([{**HELLO, "role": "judge"}], "messages.0.role"),
        ("hi", "messages: expected a list"),
    ],
)
async def test_bad_input_is_named_in_ollamas_form(system: MemorySystem, messages: object, message: str) -> None:
    answer = await system.client.post("/api/chat", json={"model": DECODER, "messages": messages})
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]


async def test_a_broken_line_of_json_is_400(system: MemorySystem) -> None:
    for body in (b'{"model": "decoder"\n', b'{"model": "decoder"}\n{"model": "decoder"}\n', b"", b"[]"):
        answer = await system.client.post("/api/chat", content=body)
        assert answer.status_code == 400, answer.text
        assert "body" in answer.json()["error"]


@pytest.mark.parametrize("operation", TAKERS, ids=lambda each: each.path)
async def test_the_tables_are_true(system: MemorySystem, operation: Operation) -> None:
    path, parameters, body = operation.path, operation.parameters, BODIES[operation.path]
    path = path.format(model=EMBEDDER, version=1)
    assert parameters is not None
    whole = await system.client.post(path, json=body)
    assert whole.status_code == 200, whole.text
    for name in parameters.ignored:
        answer = await system.client.post(path, json=given(body, name, {"any": ["thing"]}))
        assert answer.status_code == 200, (name, answer.text)
    for name, off in parameters.refused.items():
        for value in (None, *off):
            answer = await system.client.post(path, json=given(body, name, value))
            assert answer.status_code == 200, (name, answer.text)
        refused = await system.client.post(path, json=given(body, name, {"any": ["thing"]}))
        assert refused.status_code == 400, name
        assert f"{name} is not supported yet" in refused.text
    unknown = await system.client.post(path, json=given(body, "temperatur", 1))
    assert (unknown.status_code, "unrecognized request argument: temperatur" in unknown.text) == (400, True)


def given(body: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(body))
    *outer, inner = name.split(".")
    place = changed
    for each in outer:
        place = place.setdefault(each, {})
        if isinstance(place, list):
            place = place[0]
    place[inner] = value
    return changed
