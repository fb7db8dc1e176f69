"""No body of a request is our fault: whatever stands in it, the status is never 500."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from shared.text.tokenizer import Tokenizer
from tests.support.factories.hostile_bodies import HOSTILE, hostile_bodies, paths, replaced
from tests.support.harness.in_thread import in_thread
from tests.support.harness.memory_system import DECODER, EMBEDDER, RANKER, memory_system
from tests.support.models.chat_templates import CHATML, QWEN2
from tests.support.models.small_tokenizers import byte_level

TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
        "strict": False,
    },
}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}}
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
SAMPLING = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "top_n_sigma": 1.0,
    "seed": 1,
    "stop": ["x"],
    "stop_token_ids": [5],
    "logit_bias": {"5": 1},
    "allowed_token_ids": [5, 6],
    "bad_words": ["foo"],
    "min_tokens": 0,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "prompt_logprobs": 1,
}
BODIES: list[tuple[str, dict[str, Any]]] = [
    (
        CHAT,
        {
            "model": DECODER,
            "messages": [
                {"role": "system", "content": "s", "name": "n"},
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [CALL],
                    "parsed": None,
                    "refusal": None,
                    "reasoning_content": "x",
                    "annotations": [],
                    "audio": None,
                },
                {"role": "tool", "tool_call_id": "c", "content": "r"},
            ],
            "max_tokens": 2,
            "max_completion_tokens": 2,
            "n": 1,
            "logprobs": True,
            "top_logprobs": 1,
            "tools": [TOOL],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "metadata": {"a": "b"},
            "return_token_ids": True,
            "cache_salt": "x",
            "reasoning_effort": "low",
            "verbosity": "low",
            "chat_template_kwargs": {"enable_thinking": False},
            "add_generation_prompt": True,
            "continue_final_message": False,
            "priority": 0,
            **SAMPLING,
        },
    ),
    (
        CHAT,
        {
            "model": DECODER,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 2,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
            },
        },
    ),
    (
        CHAT,
        {
            "model": DECODER,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 2,
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            "tools": [TOOL],
        },
    ),
    (
        COMPLETIONS,
        {
            "model": DECODER,
            "prompt": [5, 6],
            "max_tokens": 2,
            "echo": True,
            "logprobs": 1,
            "best_of": 1,
            "n": 1,
            "suffix": "",
            **SAMPLING,
        },
    ),
    (COMPLETIONS, {"model": DECODER, "prompt": [5, 6], "max_tokens": 2, "guided_regex": "a"}),
    (COMPLETIONS, {"model": DECODER, "prompt": ["ab"], "max_tokens": 2, "guided_json": SCHEMA}),
    (COMPLETIONS, {"model": DECODER, "prompt": [[5]], "max_tokens": 2, "structured_outputs": {"json": SCHEMA}}),
    (COMPLETIONS, {"model": DECODER, "prompt": "ab", "max_tokens": 2, "guided_choice": ["a", "b"]}),
    (COMPLETIONS, {"model": DECODER, "prompt": "ab", "max_tokens": 2, "guided_grammar": 'start: "a"'}),
    (
        "/v1/embeddings",
        {
            "model": EMBEDDER,
            "input": [[1, 2]],
            "encoding_format": "float",
            "dimensions": 4,
            "truncate_prompt_tokens": 5,
        },
    ),
    ("/v1/embeddings", {"model": EMBEDDER, "input": ["the"], "truncate_prompt_tokens": 5}),
    ("/v1/classify", {"model": RANKER, "input": ["a"], "truncate_prompt_tokens": 5}),
    (
        "/v1/rerank",
        {
            "model": RANKER,
            "query": "q",
            "documents": ["a", {"text": "b"}],
            "top_n": 1,
            "return_documents": True,
            "truncate_prompt_tokens": 8,
        },
    ),
    (
        "/v1/messages",
        {
            "model": DECODER,
            "max_tokens": 2,
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi", "citations": None}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "t", "signature": "s"},
                        {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r", "is_error": True}],
                },
            ],
            "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA, "type": "custom", "strict": False}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
            "stop_sequences": ["x"],
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 5,
            "metadata": {"user_id": "u"},
            "context_management": {"edits": []},
        },
    ),
    (
        "/v1/messages/count_tokens",
        {"model": DECODER, "messages": [{"role": "user", "content": "hi"}], "system": "s", "tools": []},
    ),
    (
        "/api/chat",
        {
            "model": DECODER,
            "messages": [
                {"role": "user", "content": "hi", "images": []},
                {
                    "role": "assistant",
                    "content": "",
                    "thinking": "t",
                    "tool_calls": [{"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
                },
                {"role": "tool", "content": "r", "tool_name": "f", "tool_call_id": "c"},
            ],
            "tools": [TOOL],
            "stream": False,
            "format": "json",
            "think": "low",
            "keep_alive": "5m",
            "logprobs": True,
            "top_logprobs": 1,
            "options": {
                "num_predict": 2,
                "seed": 1,
                "temperature": 0.5,
                "top_k": 5,
                "top_p": 0.9,
                "min_p": 0.1,
                "repeat_penalty": 1.1,
                "presence_penalty": 0.1,
                "frequency_penalty": 0.1,
                "stop": ["x"],
                "num_ctx": 4096,
            },
        },
    ),
    (
        "/api/generate",
        {
            "model": DECODER,
            "prompt": "hi",
            "system": "s",
            "raw": False,
            "stream": False,
            "format": SCHEMA,
            "options": {"num_predict": 2},
        },
    ),
    ("/api/embed", {"model": EMBEDDER, "input": ["the"], "truncate": True, "dimensions": 4}),
    ("/api/embeddings", {"model": EMBEDDER, "prompt": "the"}),
    ("/api/show", {"model": DECODER, "verbose": True}),
]


@pytest.fixture(scope="module", params=[CHATML, QWEN2], ids=["plain", "tools"])
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    running = in_thread(memory_system(Tokenizer(byte_level()), request.param))
    with running as system, httpx.Client(base_url=system.client.base_url, timeout=30) as client:
        yield client


def check(client: httpx.Client, route: str, body: bytes) -> None:
    answer = client.post(route, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in {200, 400, 404, 413, 429}, f"{answer.status_code} {answer.text}\n{body[:1000]!r}"
    assert '"code":"internal"' not in answer.text, f"{answer.text}\n{body[:1000]!r}"


@pytest.mark.parametrize(("route", "body"), BODIES, ids=range(len(BODIES)))
def test_the_bodies_are_right_as_they_are(client: httpx.Client, route: str, body: dict[str, Any]) -> None:
    answer = client.post(route, json=body)
    assert answer.status_code == 200, answer.text


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(given_body=hostile_bodies(BODIES))
def test_values_that_no_library_takes_are_never_our_fault(
    client: httpx.Client, given_body: tuple[str, bytes]
) -> None:
    check(client, *given_body)


NUMBERS = ["4294967296", "9223372036854775807", "9223372036854775808", "-1", "1" * 4300, "9" * 5000, "1e400", "NaN"]
NESTED = [value for value in HOSTILE if value[0] in "[{" and len(value) > 150]


@pytest.mark.parametrize("value", NUMBERS, ids=range(len(NUMBERS)))
def test_numbers_that_no_library_takes_are_never_our_fault(client: httpx.Client, value: str) -> None:
    for route, body in BODIES:
        for path in paths(body):
            if len(path) == 1 or isinstance(path[-1], int):
                check(client, route, replaced(body, {path: value}))


@pytest.mark.parametrize("value", NESTED, ids=range(len(NESTED)))
def test_nesting_is_never_our_fault(client: httpx.Client, value: str) -> None:
    for route, body in BODIES:
        for path in paths(body):
            check(client, route, replaced(body, {path: value}))


@pytest.mark.parametrize("token", [-1, 400, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 10**30])
def test_token_ids_outside_the_vocabulary_are_refused_by_name(client: httpx.Client, token: int) -> None:
    prompt = {"model": DECODER, "prompt": [5], "max_tokens": 2}
    chat = {"model": DECODER, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    cases: list[tuple[str, dict[str, Any], str]] = [
        (COMPLETIONS, {**prompt, "prompt": [token]}, "prompt"),
        (COMPLETIONS, {**prompt, "prompt": [[5], [5, token]]}, "prompt"),
        ("/v1/embeddings", {"model": EMBEDDER, "input": [token]}, "input"),
        ("/v1/embeddings", {"model": EMBEDDER, "input": [[5], [5, token]]}, "input"),
        *((CHAT, {**chat, name: [token]}, name) for name in ("stop_token_ids", "allowed_token_ids")),
        (CHAT, {**chat, "logit_bias": {str(token): 1}}, "logit_bias"),
    ]
    for route, body, name in cases:
        answer = client.post(route, json=body)
        assert answer.status_code == 400, f"{route} {answer.text}"
        assert answer.json()["error"]["param"].startswith(name), answer.text


@pytest.mark.parametrize(
    ("name", "value"),
    [("truncate_prompt_tokens", 0), ("truncate_prompt_tokens", 1 << 64), ("dimensions", 1 << 64), ("dimensions", 0)],
)
def test_numbers_of_embeddings_are_refused_by_name(client: httpx.Client, name: str, value: int) -> None:
    answer = client.post("/v1/embeddings", json={"model": EMBEDDER, "input": "the", name: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
