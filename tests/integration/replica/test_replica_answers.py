"""A replica process answers over the bus."""

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_bus):
    from tests.support.replicas import FrameClient

    client = FrameClient(shared_bus)
    await client.start()
    return client


async def test_a_prompt_is_continued(replica, client):
    answer = await client.ask(
        replica.id, prompt="The quick", sampling={"max_tokens": 8, "temperature": 0, "ignore_eos": True}
    )
    assert len(answer.token_ids) == 8
    assert answer.last.finish_reason == "length"
    print(answer)
