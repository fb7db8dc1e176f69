"""The `anthropic` package against the gateway, on its defaults."""

import asyncio
from collections.abc import AsyncIterator

import anthropic
import pytest

from shared.errors import Internal, Overloaded
from tests.integration.gateway.conftest import ADMIN_KEY, MODEL, Stand
from tests.support.fakes.scripted_tokens import expected_text
from tests.support.harness.wait import eventually

MESSAGES: list[anthropic.types.MessageParam] = [{"role": "user", "content": "tell me words"}]


@pytest.fixture
async def client(stand: Stand) -> AsyncIterator[anthropic.AsyncAnthropic]:
    await stand.deploy()
    await stand.replica()
    async with anthropic.AsyncAnthropic(base_url=stand.url, api_key=ADMIN_KEY, max_retries=0) as made:
        yield made


async def test_a_message_is_answered_whole_and_streamed(client: anthropic.AsyncAnthropic, stand: Stand) -> None:
    whole = await client.messages.create(model=MODEL, max_tokens=4, messages=MESSAGES)
    seed = stand.replicas[0].received[-1].sampling.seed
    assert seed is not None
    assert whole.content[0].type == "text"
    assert whole.content[0].text == expected_text("tell me words", seed, 4)
    assert (whole.type, whole.role, whole.model, whole.stop_reason) == ("message", "assistant", MODEL, "max_tokens")
    assert whole.id.startswith("msg_")
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, 4)
    assert whole._request_id is not None
    stand.replicas[0].cached_tokens = 2
    async with client.messages.stream(model=MODEL, max_tokens=5, messages=MESSAGES) as stream:
        pieces = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    seed = stand.replicas[0].received[-1].sampling.seed
    assert seed is not None
    assert len(pieces) > 1
    assert "".join(pieces) == expected_text("tell me words", seed, 5)
    assert final.content[0].type == "text"
    assert final.content[0].text == "".join(pieces)
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (1, 2, 5)


async def test_the_plain_client_streams(client: anthropic.AsyncAnthropic, stand: Stand) -> None:
    def events() -> list[str]:
        with anthropic.Anthropic(base_url=stand.url, api_key=ADMIN_KEY) as plain:
            stream = plain.messages.create(model=MODEL, max_tokens=2, messages=MESSAGES, stream=True)
            return [event.type for event in stream]

    assert await asyncio.to_thread(events) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_errors_arrive_as_the_clients_own_types(client: anthropic.AsyncAnthropic, stand: Stand) -> None:
    replica = stand.replicas[0]
    with pytest.raises(anthropic.NotFoundError) as missing:
        await client.messages.create(model="nope", max_tokens=1, messages=MESSAGES)
    assert missing.value.type == "not_found_error"
    assert missing.value.error_code == "model_not_found"
    assert missing.value.request_id is not None
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="llmos-no").messages.create(model=MODEL, max_tokens=1, messages=MESSAGES)
    replica.rejection = Overloaded("full", retry_after=0.0001)
    with pytest.raises(anthropic.RateLimitError):
        await client.messages.create(model=MODEL, max_tokens=1, messages=MESSAGES)
    replica.rejection = None
    replica.fail_at = (2, Internal("broken in the middle"))
    with pytest.raises(anthropic.APIStatusError, match="broken in the middle"):
        async with client.messages.stream(model=MODEL, max_tokens=6, messages=MESSAGES) as stream:
            await stream.get_final_message()


async def test_a_stream_that_is_left_frees_its_replica(client: anthropic.AsyncAnthropic, stand: Stand) -> None:
    replica = stand.replicas[0]
    replica.token_delay = 0.05
    async with client.messages.stream(model=MODEL, max_tokens=1000, messages=MESSAGES) as stream:
        async for _ in stream.text_stream:
            break
    await eventually(lambda: replica.running == 0)
    again = await client.messages.create(model=MODEL, max_tokens=2, messages=MESSAGES)
    assert again.usage.output_tokens == 2


async def test_a_stream_goes_on_when_its_replica_is_lost(client: anthropic.AsyncAnthropic, stand: Stand) -> None:
    stand.replicas[0].die_at = 3
    await stand.replica("sample-1-b")
    stand.replicas[1].queued_tokens = 5000
    await stand.replicas[1].heartbeat()
    async with client.messages.stream(model=MODEL, max_tokens=8, messages=MESSAGES) as stream:
        final = await stream.get_final_message()
    assert final.usage.output_tokens == 8
    assert final.content[0].type == "text"
    assert len(final.content[0].text.split()) == 8
