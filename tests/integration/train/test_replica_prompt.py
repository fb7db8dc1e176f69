"""What a running replica computes for a conversation is what the trainer masks as its prompt."""

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

import asyncio
from dataclasses import replace

from devtools.convert.decoder_version import write_version
from devtools.train.base import open_base
from devtools.train.examples import rendering
from shared.bus import rpc
from shared.contracts.replica import ChatMessage, Generate, Tool, ToolCall, generate_endpoint
from shared.contracts.sampling import Sampling
from shared.contracts.scheduler import ReplicaState
from shared.storage.directory import DirectoryStore
from tests.support.harness.replicas import FrameClient, replica_process, store_version
from tests.support.models.small_model import write_small_gguf
from tests.support.train.templates import QWEN

pytestmark = pytest.mark.train
TOOLS = (Tool(name="weather", parameters='{"type": "object", "properties": {"city": {"type": "string"}}}'),)
CONVERSATIONS = [
    ((ChatMessage(role="user", content="Hello <|im_end|> 你好"),), ()),
    (
        (
            ChatMessage(role="developer", content="Be brief."),
            ChatMessage(role="user", content="Sunny in Zürich?"),
            ChatMessage(
                role="assistant",
                content="<think>hm</think>I look.",
                tool_calls=(ToolCall(id="c1", name="weather", arguments='{"city": "Zürich"}'),),
            ),
            ChatMessage(role="tool", content="rain", tool_call_id="c1"),
        ),
        TOOLS,
    ),
]


@pytest.mark.parametrize("template", [None, QWEN], ids=["its own", "with tools"])
async def test_prompt_ids_of_the_trainer_are_those_of_a_replica(bus, nats_url, tmp_path, template):
    model = open_base(write_small_gguf(tmp_path / "small.gguf"))
    if template is not None:
        model = replace(model, text=replace(model.text, chat_template=template))
    manifest = await asyncio.to_thread(write_version, model, tmp_path / "version")
    digest = await store_version(DirectoryStore(tmp_path / "store"), tmp_path / "version", manifest, "small")
    client = FrameClient(bus)
    await client.start()
    async with (
        rendering(model, max_len=512) as renderer,
        replica_process(bus, nats_url, tmp_path / "store", tmp_path / "cache", digest, max_len=512) as replica,
    ):
        await replica.until(ReplicaState.READY)
        for number, (messages, tools) in enumerate(CONVERSATIONS if template else CONVERSATIONS[:1]):
            request = Generate(
                request_id=f"prompt-{number}", gateway_id=client.gateway_id, messages=messages, tools=tools,
                return_prompt=True, sampling=Sampling(max_tokens=1),
            )  # fmt: skip
            accepted = await rpc.call(bus, generate_endpoint(replica.id), request, timeout=30)
            assert list(accepted.prompt_token_ids) == await renderer.prompt_ids(messages, tools)
