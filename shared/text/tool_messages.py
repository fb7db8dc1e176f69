"""Conversations with tools as chat templates take them.

A template that renders tools gets them as Hugging Face passes them: `tools`, and messages with `tool_calls`, in the
way that this template takes calls (`template_traits`). Any other gets them in plain messages, in the words that
Qwen2.5 and Hermes were trained on: the tools in the system message, calls in `<tool_call>` tags, and their results in
a user's message in `<tool_response>` tags.
"""

import json
from collections.abc import Sequence
from typing import Any

from shared.contracts.replica import ChatMessage, Tool, ToolCall
from shared.text.call_arguments import call_arguments
from shared.text.single_calls import one_call_each
from shared.text.template_traits import TYPICAL, TemplateTraits
from shared.text.tool_form import HERMES

_SYSTEM = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def tool_object(tool: Tool) -> dict[str, Any]:
    """A tool in OpenAI's form, as templates write it out."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": {**function, "parameters": json.loads(tool.parameters)}}


def native_messages(messages: Sequence[ChatMessage], traits: TemplateTraits = TYPICAL) -> list[dict[str, Any]]:
    """A conversation for a template that knows tools."""
    if not traits.parallel_calls:
        messages = one_call_each(messages)
    return [_native(message, traits) for message in messages]


def _native(message: ChatMessage, traits: TemplateTraits) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        plain["name"] = message.name
    if message.reasoning is not None:
        plain["reasoning_content"] = message.reasoning
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": traits.call_id(call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": traits.arguments(call_arguments(call.arguments))},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = traits.call_id(message.tool_call_id)
    return plain


def plain_messages(messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """A conversation for a template that does not know tools; neighbouring results become one message."""
    plain: list[dict[str, Any]] = []
    responses = False
    for message in messages:
        if message.role == "tool":
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            if responses:
                plain[-1]["content"] += "\n" + text
            else:
                plain.append({"role": "user", "content": text})
            responses = True
            continue
        responses = False
        parts = [message.content, *map(_call, message.tool_calls)]
        plain.append({"role": message.role, "content": "\n".join(part for part in parts if part)})
        if message.name is not None:
            plain[-1]["name"] = message.name
        if message.reasoning is not None:
            plain[-1]["reasoning_content"] = message.reasoning
    if tools:
        _introduce(plain, tools)
    return plain


def _introduce(messages: list[dict[str, Any]], tools: Sequence[Tool]) -> None:
    text = _SYSTEM.format(tools="\n".join(json.dumps(tool_object(tool), ensure_ascii=False) for tool in tools))
    if messages and messages[0]["role"] in {"system", "developer"}:
        messages[0]["content"] += "\n\n" + text
    else:
        messages.insert(0, {"role": "system", "content": text})


def _call(call: ToolCall) -> str:
    body = json.dumps({"name": call.name, "arguments": call_arguments(call.arguments)}, ensure_ascii=False)
    return f"{HERMES.opening}\n{body}\n{HERMES.closing}"
