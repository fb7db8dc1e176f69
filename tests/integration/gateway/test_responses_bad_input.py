"""What `/v1/responses` and `/v1/conversations` refuse: in one line, with the field, and before a replica is asked."""

from typing import Any

from tests.integration.gateway.conftest import MODEL, Stand

USER = {"role": "user", "content": "x"}
FUNCTION = {"type": "function", "name": "f"}

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"input": None}, "input", "expected a list"),
    ({"input": []}, "input", "is required"),
    ({"input": 3}, "input", "expected a list"),
    ({"input": [USER] * 10_000}, "input", "10000 are given; at most 2048"),
    ({"input": [{"type": "computer_call", "id": "x"}]}, "input.0", "'computer_call' is not supported; supported are"),
    ({"input": [USER, {"type": ["a"]}]}, "input.1", "is not supported"),
    ({"input": ["x"]}, "input.0", "expected an object like"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role", "'user', 'system', 'developer' or 'assistant'"),
    ({"input": [{"role": "user"}]}, "input.0.content", "is required"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]},
        "input.0.content",
        "'input_image', which is not supported: models here take text",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
        "input.0.content",
        "'input_file', which is not supported",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": 3}]}]},
        "input.0.content",
        "must be a string",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}] * 2049}]},
        "input.0.content",
        "2049 parts",
    ),
    (
        {"input": [USER, {"type": "function_call_output", "call_id": "c", "output": "x"}]},
        "input.1.call_id",
        "no function_call has the call_id 'c' before",
    ),
    ({"input": [{"type": "function_call", "call_id": "c", "name": 3}]}, "input.0.name", "expected a string"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.id", "there is no item 'msg_1'"),
    ({"tools": [{"type": "web_search"}]}, "tools.0", "'web_search' is not supported: LLMOS hosts no tools"),
    ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools.0", "'mcp' is not supported"),
    ({"tools": [{"type": "custom", "name": "x"}]}, "tools.0", "'custom' is not supported"),
    (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        "tools.0",
        "'function' is not supported in a function",
    ),
    ({"tools": [{**FUNCTION, "defer_loading": True}]}, "tools.0", "'defer_loading' is not supported"),
    ({"tools": [FUNCTION, FUNCTION]}, "tools.1.name", "two tools are named 'f'"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools.0.name", ""),
    ({"tools": [FUNCTION] * 129}, "tools", "129 are given; at most 128"),
    ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice.name",
        "none of the tools",
    ),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "g"}]}},
        "tool_choice.tools.0.name",
        "none of the tools",
    ),
    ({"tool_choice": {"type": "file_search"}}, "tool_choice", "'file_search' is not supported"),
    ({"tool_choice": "any"}, "tool_choice", ""),
    ({"truncation": "auto"}, "truncation", "truncation 'auto' is not supported"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt", "prompt is not supported"),
    ({"context_management": [{"type": "compaction"}]}, "context_management", "is not supported"),
    ({"moderation": {"model": "m"}}, "moderation", "is not supported"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format", "needs a name and a schema"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "'text', 'json_object' or 'json_schema'"),
    ({"max_tokens": 3}, "max_tokens", "max_output_tokens"),
    ({"max_output_tokens": 0}, "max_output_tokens", "greater than or equal to 1"),
    ({"n": 2}, "n", "has one answer"),
    ({"logprobs": 1}, "logprobs", "top_logprobs"),
    ({"top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
    ({"include": ["everything"]}, "include.0", "message.output_text.logprobs"),
    ({"metadata": {"a": 1}}, "metadata.a", "expected a string"),
    ({"metadata": {str(n): "x" for n in range(17)}}, "metadata", "17 are given; at most 16"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a", "512"),
    ({"temperature": 3}, "temperature", "less than or equal to 2"),
    ({"temperatur": 1}, "temperatur", "unrecognized request argument"),
    ({"messages": [USER]}, "messages", "unrecognized request argument"),
    ({"reasoning": {"effort": "hard"}}, "reasoning.effort", "'none', 'minimal'"),
    ({"stream_options": {"include_obfuscation": False}}, "stream_options", "stream=true only"),
    ({"background": True, "store": False}, "background", "needs store"),
    ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "conversation", "exclude each other"),
    ({"previous_response_id": "resp_1"}, "previous_response_id", "there is no response 'resp_1'"),
    ({"conversation": "conv_1"}, "conversation", "there is no conversation 'conv_1'"),
    ({"conversation": {"id": "conv_1", "x": 1}}, "conversation.x", "unrecognized request argument"),
]


async def test_what_is_wrong_is_refused_with_its_field(stand: Stand) -> None:
    for changes, param, message in REFUSED:
        answer = await stand.client.post("/v1/responses", json={"model": MODEL, "input": "x", **changes})
        error = answer.json()["error"]
        assert answer.status_code == (404 if "there is no" in message else 400), error
        assert error["param"] == param
        assert message in error["message"]
        assert "\n" not in error["message"]


async def test_parameters_without_effect_and_their_off_values_are_taken(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    taken: dict[str, Any] = {
        "truncation": "disabled",
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "safety_identifier": "s",
        "max_tool_calls": 4,
        "include": ["reasoning.encrypted_content", "file_search_call.results"],
        "reasoning": {"effort": None, "summary": "auto"},
        "context_management": None,
        "tool_choice": "auto",
        "tools": [],
        "text": {"format": {"type": "text"}},
        "stream": True,
        "stream_options": {"include_obfuscation": False},
    }
    answer = await stand.client.post("/v1/responses", json={"model": MODEL, "input": "x", **taken})
    assert answer.status_code == 200, answer.text


async def test_conversations_refuse_what_they_can_not_keep(stand: Stand) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"items": [{"type": "item_reference", "id": "x"}]}, "items.0"),
        ({"items": [{"role": "user", "content": 3}]}, "items.0.content"),
        ({"items": [{"type": "web_search_call"}]}, "items.0"),
        ({"metadata": 3}, "metadata"),
        ({"topic": "x"}, "topic"),
    ]
    for body, param in refused:
        answer = await stand.client.post("/v1/conversations", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_pages_name_what_is_wrong_with_them(stand: Stand) -> None:
    conversation = (await stand.client.post("/v1/conversations", json={"items": [USER]})).json()["id"]
    for query, param in (
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("order=up", "order"),
        ("after=msg_1", "after"),
        ("before=msg_1", "before"),
        ("page=2", "page"),
    ):
        answer = await stand.client.get(f"/v1/conversations/{conversation}/items?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), query
