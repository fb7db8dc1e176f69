"""What LLMOS and other servers return can be sent back, and continued; streams count their usage."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from shared.text.tokenizer import Tokenizer
from tests.support.harness.memory_system import DECODER, MAX_LEN, MemorySystem, memory_system
from tests.support.models.chat_templates import CHATML, DEEPSEEK, LLAMA3, MISTRAL, QWEN2, QWEN3_CODER
from tests.support.models.small_tokenizers import byte_level

TEMPLATES = {
    "no tools": CHATML,
    "any arguments": QWEN2,
    "objects": QWEN3_CODER,
    "one call": LLAMA3,
    "short ids": MISTRAL,
    "text": DEEPSEEK,
}
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
HELLO = {"role": "user", "content": "time?"}


def call(arguments: str, name: str = "1") -> dict[str, Any]:
    return {"id": f"call_{name}", "type": "function", "function": {"name": "now", "arguments": arguments}}


def history(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    called = {"role": "assistant", "content": None, "tool_calls": list(calls)}
    results = [{"role": "tool", "tool_call_id": each["id"], "content": "12:00"} for each in calls]
    return [HELLO, called, *results]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=TEMPLATES)
async def system(request: pytest.FixtureRequest) -> AsyncIterator[MemorySystem]:
    async with memory_system(Tokenizer(byte_level()), TEMPLATES[request.param]) as running:
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("arguments", ["", '{"value": ', r'{"a": "\ud83d"}', "null", "[1]", "NaN", '{"a": 1e400}'])
async def test_calls_with_any_arguments_can_be_sent_back(system: MemorySystem, arguments: str) -> None:
    answer = await system.chat(messages=history(call(arguments)), tools=[NOW])
    assert answer.status_code == 200, answer.text


async def test_arguments_that_are_too_deep_are_400(system: MemorySystem) -> None:
    for levels in (150, 2000):
        deep = '{"a":' * levels + "1" + "}" * levels
        answer = await system.chat(messages=history(call(deep)), tools=[NOW])
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "messages.1.tool_calls.0.function.arguments"


async def test_parallel_calls_can_be_sent_back(system: MemorySystem) -> None:
    messages = history(call("{}", "1"), call('{"a": 1}', "2"), call("", "3"))
    answer = await system.chat(messages=messages, tools=[NOW], tool_choice="required", max_tokens=64)
    assert answer.status_code == 200, answer.text


async def test_a_message_of_the_openai_package_can_be_sent_back(system: MemorySystem) -> None:
    for extra in ({"parsed": None}, {"parsed": {"a": 1}}, {"refusal": None, "annotations": [], "audio": None}):
        said = {"role": "assistant", "content": "yo", **extra}
        answer = await system.chat(messages=[HELLO, said, HELLO], max_tokens=3)
        assert answer.status_code == 200, answer.text


async def test_text_with_half_a_surrogate_pair_is_taken(system: MemorySystem) -> None:
    body = {"model": DECODER, "max_tokens": 1, "messages": [{"role": "user", "content": "cut: @"}]}
    content = json.dumps(body).replace("@", r"\ud83d").encode()
    answer = await system.client.post("/v1/chat/completions", content=content)
    assert answer.status_code == 200, answer.text


async def test_the_last_message_can_be_continued(system: MemorySystem) -> None:
    begun = {"role": "assistant", "content": "It is "}
    new = await system.chat(messages=[HELLO, begun])
    continued = await system.chat(messages=[HELLO, begun], continue_final_message=True, add_generation_prompt=False)
    assert continued.status_code == 200, continued.text
    assert continued.json()["usage"]["prompt_tokens"] < new.json()["usage"]["prompt_tokens"]
    both = await system.chat(messages=[HELLO, begun], continue_final_message=True, add_generation_prompt=True)
    assert both.json()["error"]["param"] == "continue_final_message"


async def test_options_of_reasoning_models_are_accepted(system: MemorySystem) -> None:
    options: dict[str, object] = {"reasoning_effort": "none", "verbosity": "high"}
    answer = await system.chat(**options, chat_template_kwargs={"enable_thinking": False, "deep": {"a": [1]}})
    assert answer.status_code == 200, answer.text
    refused = await system.chat(chat_template_kwargs={"messages": []})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "chat_template_kwargs.messages"


async def test_a_prompt_that_is_too_long_is_named_in_openais_words(system: MemorySystem) -> None:
    for fields in (
        {"max_tokens": MAX_LEN},
        {"max_tokens": (1 << 63) - 1},
        {"messages": [{**HELLO, "content": "x " * 3 * MAX_LEN}]},
        {"messages": [{**HELLO, "content": "x" * (5 << 20)}], "max_tokens": None},
    ):
        answer = await system.chat(**fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "context_length_exceeded"), answer.text
        assert f"This model's maximum context length is {MAX_LEN} tokens" in error["message"]


async def test_a_look_at_usage_while_it_streams(system: MemorySystem) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chat = {"messages": [HELLO], "n": 2}
    for path, fields in (("/v1/chat/completions", chat), ("/v1/completions", {"prompt": ["a b", "c"]})):
        body = {"model": DECODER, "max_tokens": 4, "stream": True, "ignore_eos": True, **fields}
        plain = chunks(await system.client.post(path, json={**body, "stream_options": {"include_usage": True}}))
        assert all(chunk["usage"] is None for chunk in plain[:-1])
        counted = chunks(await system.client.post(path, json={**body, "stream_options": options}))
        usages = [(chunk["choices"][0]["index"], chunk["usage"]) for chunk in counted[:-1]]
        for index in (0, 1):
            mine = [usage for choice, usage in usages if choice == index]
            assert [usage["completion_tokens"] for usage in mine] == sorted(
                usage["completion_tokens"] for usage in mine
            )
            assert mine[-1]["completion_tokens"] == 4
            assert all(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] for usage in mine)
        assert counted[-1]["usage"]["completion_tokens"] == 8


async def test_a_client_that_leaves_nothing_out_goes_on_with_its_own_history(system: MemorySystem) -> None:
    async with openai.AsyncOpenAI(base_url=f"{system.client.base_url}/v1", api_key="none", max_retries=0) as client:
        messages: list[Any] = [HELLO]
        for _ in range(2):
            answer = await client.chat.completions.create(
                model=DECODER, messages=messages, tools=[NOW], tool_choice="required", max_tokens=200, seed=3
            )
            message = answer.choices[0].message
            messages.append(message)  # all that came, as the package has it
            made = message.tool_calls or ()
            messages += [{"role": "tool", "tool_call_id": each.id, "content": "12:00"} for each in made]


def chunks(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def llama() -> AsyncIterator[MemorySystem]:
    async with memory_system(Tokenizer(byte_level()), LLAMA3) as running:
        yield running


async def test_an_answer_has_one_call_where_the_template_takes_one(llama: MemorySystem) -> None:
    counts = set()
    for seed in range(6):
        fields = {"tools": [NOW], "tool_choice": "required", "max_tokens": 200, "temperature": 1.0, "seed": seed}
        answer = await llama.chat(messages=[HELLO], **fields)
        message = answer.json()["choices"][0]["message"]
        counts.add(len(message["tool_calls"]))
    assert counts == {1}
