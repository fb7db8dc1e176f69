"""OpenAI's Agents SDK, which asks `/v1/responses` by default: an opt-in test, since it brings 40 packages.

python -m venv /tmp/agents && /tmp/agents/bin/pip install openai-agents
LLMOS_TEST_AGENTS=/tmp/agents/bin/python pytest tests/integration/gateway/test_agents_sdk.py
"""

import asyncio
import json
import os
from pathlib import Path

import pytest

from shared.contracts.gateway import FinishReason, GeneratedToolCall
from shared.contracts.replica import Generate
from tests.integration.gateway.conftest import ADMIN_KEY, MODEL, Stand
from tests.support.fakes.spoken_frames import spoken

PYTHON = os.environ.get("LLMOS_TEST_AGENTS", "")
PROGRAM = Path(__file__).parents[2] / "support/agents_sdk.py"
CALL = GeneratedToolCall(index=0, id="call_1", name="weather", arguments='{"city": "Paris"}')

pytestmark = pytest.mark.skipif(not PYTHON, reason="LLMOS_TEST_AGENTS names no Python that has openai-agents")


async def test_agents_run_continue_call_stream_and_keep_conversations(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stand.deploy()
    replica = await stand.replica()
    text, call = spoken("Fine", "."), spoken(calls=(CALL,), reason=FinishReason.TOOL_CALLS)
    begin = replica._begin

    def choose(request: Generate) -> None:
        """Call the tool where there is one, until it has a result."""
        has_result = any(message.role == "tool" for message in request.messages or ())
        replica.said = call if request.tools and not has_result else text
        begin(request)

    monkeypatch.setattr(replica, "_begin", choose)
    process = await asyncio.create_subprocess_exec(
        PYTHON, str(PROGRAM), stand.url, ADMIN_KEY, MODEL, stdout=asyncio.subprocess.PIPE
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    result = json.loads(printed)
    assert result["first"] == result["second"] == result["streamed"] == result["called"] == "Fine."
    assert result["events"] > 5
    assert result["session"] == 4
    assert result["items"] == ["tool_call_item", "tool_call_output_item", "message_output_item"]
