"""OpenAI's Agents SDK on its defaults, against a gateway: `python agents_sdk.py URL KEY MODEL`.

It runs in an environment of its own, and prints one JSON object with what came of it.
"""

import asyncio
import json
import sys

from agents import (  # type: ignore[import-not-found]
    Agent,
    ModelSettings,
    OpenAIConversationsSession,
    Runner,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI


@function_tool  # type: ignore[untyped-decorator]
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


async def run(url: str, key: str, model: str) -> dict[str, object]:
    """Run agents: once, continued, with a tool, streamed, and in a stored conversation."""
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    set_default_openai_client(client)
    set_tracing_disabled(disabled=True)
    agent = Agent(name="plain", instructions="You are a helpful assistant.", model=model)
    first = await Runner.run(agent, "Write a haiku.")
    second = await Runner.run(agent, "Another.", previous_response_id=first.last_response_id)
    streamed = Runner.run_streamed(agent, "Hello.")
    events = [event.type async for event in streamed.stream_events()]
    session = OpenAIConversationsSession(openai_client=client)
    for text in ("My name is Bo.", "What is my name?"):
        await Runner.run(agent, text, session=session)
    settings = ModelSettings(tool_choice="required")
    with_tool = Agent(name="tool", instructions="Use it.", model=model, tools=[weather], model_settings=settings)
    called = await Runner.run(with_tool, "Weather?")
    return {
        "first": first.final_output,
        "second": second.final_output,
        "streamed": streamed.final_output,
        "events": len(events),
        "session": len(await session.get_items()),
        "called": called.final_output,
        "items": [item.type for item in called.new_items],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run(*sys.argv[1:4]))))
