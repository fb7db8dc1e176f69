"""The `ollama` package against the gateway, on its defaults."""

import asyncio
from collections.abc import AsyncIterator

import ollama
import pytest
from pydantic import BaseModel

from shared.errors import Internal
from tests.integration.gateway.conftest import ADMIN_KEY, MODEL, Stand
from tests.support.fakes.scripted_tokens import expected_text
from tests.support.harness.wait import eventually

MESSAGES = [{"role": "user", "content": "tell me words"}]
OPTIONS = {"seed": 7, "num_predict": 6}
WHOLE = expected_text("tell me words", 7, 6)
KEY = {"authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
async def client(stand: Stand) -> AsyncIterator[ollama.AsyncClient]:
    await stand.deploy()
    await stand.replica()
    async with ollama.AsyncClient(stand.url, headers=KEY) as made:
        yield made


async def test_chat_and_generate_answer_whole_and_streamed(client: ollama.AsyncClient) -> None:
    whole = await client.chat(MODEL, MESSAGES, options=OPTIONS)
    assert whole.message.content == WHOLE
    assert (whole.done, whole.done_reason, whole.eval_count, whole.prompt_eval_count) == (True, "length", 6, 3)
    assert whole.total_duration is not None
    assert whole.total_duration > 0
    pieces = [part async for part in await client.chat(MODEL, MESSAGES, stream=True, options=OPTIONS)]
    assert "".join(part.message.content or "" for part in pieces) == WHOLE
    assert [part.done for part in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == 6
    text = await client.generate(MODEL, "tell me words", options=OPTIONS)
    assert text.response == WHOLE
    parts = [part async for part in await client.generate(MODEL, "tell me words", stream=True, options=OPTIONS)]
    assert "".join(part.response or "" for part in parts) == WHOLE
    assert parts[-1].done_reason == "length"


async def test_a_name_may_have_the_tag_latest(client: ollama.AsyncClient, stand: Stand) -> None:
    assert [model.model for model in (await client.list()).models] == [f"{MODEL}:latest"]
    assert (await client.chat(f"{MODEL}:latest", MESSAGES, options=OPTIONS)).message.content == WHOLE
    assert stand.replicas[0].received[-1].request_id.startswith("chat-")
    assert [model.name for model in (await client.ps()).models] == [f"{MODEL}:latest"]
    shown = await client.show(MODEL)
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo[f"{shown.modelinfo['general.architecture']}.context_length"] == 1024


async def test_options_reach_the_replica(client: ollama.AsyncClient, stand: Stand) -> None:
    options = {"temperature": 0, "top_p": 0.5, "top_k": 3, "repeat_penalty": 1.1, "stop": ["END"], "num_ctx": 4096}
    await client.generate(MODEL, "hi", options={**options, "num_predict": -1, "seed": -5}, keep_alive="5m")
    received = stand.replicas[0].received[-1]
    sampling = received.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stop) == (0.0, 0.5, 3, ("END",))
    assert (sampling.repetition_penalty, sampling.max_tokens, sampling.seed) == (1.1, None, (1 << 64) - 5)
    assert received.clip_max_tokens


async def test_a_schema_is_the_grammar(client: ollama.AsyncClient, stand: Stand) -> None:
    class Country(BaseModel):
        name: str

    await client.chat(MODEL, MESSAGES, format=Country.model_json_schema())
    grammar = stand.replicas[0].received[-1].grammar
    assert grammar is not None
    assert (grammar.kind, '"name"' in grammar.value) == ("json_schema", True)
    await client.generate(MODEL, "hi", format="json", system="be brief", raw=False)
    received = stand.replicas[0].received[-1]
    assert received.grammar is not None
    assert received.grammar.kind == "json_object"
    assert received.messages is not None
    assert [(each.role, each.content) for each in received.messages] == [("system", "be brief"), ("user", "hi")]


async def test_a_raw_prompt_is_the_models_own_format(client: ollama.AsyncClient, stand: Stand) -> None:
    await client.generate(MODEL, "<|im_start|>user", raw=True)
    received = stand.replicas[0].received[-1]
    assert (received.prompt, received.parse_special, received.messages) == ("<|im_start|>user", True, None)


async def test_a_request_without_a_prompt_sees_that_the_model_is_there(client: ollama.AsyncClient) -> None:
    assert (await client.generate(MODEL, keep_alive=-1)).done_reason == "load"
    assert (await client.chat(MODEL, [], keep_alive=0)).done_reason == "unload"
    with pytest.raises(ollama.ResponseError, match="does not exist"):
        await client.generate("nope")


async def test_the_plain_client_streams(client: ollama.AsyncClient, stand: Stand) -> None:
    def stream() -> str:
        with ollama.Client(stand.url, headers=KEY) as plain:
            parts = plain.chat(MODEL, MESSAGES, stream=True, options=OPTIONS)
            return "".join(part.message.content or "" for part in parts)

    assert await asyncio.to_thread(stream) == WHOLE


async def test_errors_arrive_in_the_clients_own_type(client: ollama.AsyncClient, stand: Stand) -> None:
    with pytest.raises(ollama.ResponseError, match="does not exist") as missing:
        await client.chat("nope", MESSAGES)
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match=r"options\.temperature: .*less than or equal to 2"):
        await client.chat(MODEL, MESSAGES, options={"temperature": 9.0})
    stand.replicas[0].fail_at = (2, Internal("broken in the middle"))
    with pytest.raises(ollama.ResponseError, match="broken in the middle"):
        [part async for part in await client.chat(MODEL, MESSAGES, stream=True)]
    async with ollama.AsyncClient(stand.url) as stranger:
        with pytest.raises(ollama.ResponseError, match="llmos key create"):
            await stranger.chat(MODEL, MESSAGES)


async def test_a_stream_that_is_left_frees_its_replica(client: ollama.AsyncClient, stand: Stand) -> None:
    stand.replicas[0].token_delay = 0.05
    async for _ in await client.chat(MODEL, MESSAGES, stream=True, options={"num_predict": 1000}):
        break
    await client.close()
    await eventually(lambda: stand.replicas[0].running == 0)


async def test_what_changes_models_is_refused_with_the_command_that_does_it(client: ollama.AsyncClient) -> None:
    for asking, command in (
        (client.pull("x"), "llmos model import"),
        (client.push("x"), "llmos model export"),
        (client.create("x", from_="y"), "llmos model import"),
        (client.delete("x"), "llmos undeploy"),
        (client.copy("x", "y"), "llmos deploy"),
    ):
        with pytest.raises(ollama.ResponseError, match=command) as refused:
            await asking
        assert refused.value.status_code == 403
