"""The `openai` package against the gateway."""

import asyncio

import openai
import pytest

from shared.errors import Internal, Overloaded
from tests.integration.gateway.conftest import ADMIN_KEY, MODEL, Stand
from tests.support.fakes.scripted_tokens import expected_text
from tests.support.harness.wait import eventually

MESSAGES = [{"role": "user", "content": "tell me words"}]
WHOLE = expected_text("tell me words", 7, 6)


async def test_the_async_client_chats_streams_and_lists(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES, seed=7)
        assert answer.choices[0].message.content == WHOLE
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 6
        stream = await client.chat.completions.create(
            model=MODEL, messages=MESSAGES, seed=7, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == WHOLE
        assert chunks[-1].usage is not None
        text = await client.completions.create(model=MODEL, prompt="tell me words", seed=7, max_tokens=6)
        assert text.choices[0].text == WHOLE
        assert [model.id async for model in client.models.list()] == [MODEL]
        assert (await client.models.retrieve(MODEL)).id == MODEL


async def test_the_sync_client_streams(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()

    def stream() -> str:
        with openai.OpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
            chunks = client.chat.completions.create(model=MODEL, messages=MESSAGES, seed=7, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert await asyncio.to_thread(stream) == WHOLE


async def test_errors_arrive_as_the_clients_own_types(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nope", messages=MESSAGES)
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model=MODEL, messages=MESSAGES, n=200)
        assert bad.value.param == "n"
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="llmos-no").models.list()
        replica.rejection = Overloaded("full", retry_after=0.0001)
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model=MODEL, messages=MESSAGES)
        replica.rejection = None
        replica.fail_at = (2, Internal("broken in the middle"))
        with pytest.raises(openai.APIError, match="broken in the middle"):
            async for _ in await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
                pass


async def test_the_client_that_retries_gets_through_a_short_overload(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.rejection = Overloaded("full", retry_after=1)

    async def relax() -> None:
        await eventually(lambda: replica.received)
        replica.rejection = None

    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY) as client:
        answer, _ = await asyncio.gather(
            client.chat.completions.create(model=MODEL, messages=MESSAGES, seed=7), relax()
        )
    assert answer.choices[0].message.content == WHOLE
