"""Messages and tools of OpenAI's chat format become those of rows."""

import json
from collections.abc import Sequence
from typing import Any

from devtools.data.defects import Broken
from devtools.data.rows import Turn
from shared.contracts.replica import ChatMessage, Tool, ToolCall

ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


def text(value: Any, field: str, *, empty: bool = True) -> str:
    """A string; raises Broken that names `field`."""
    if not isinstance(value, str):
        raise Broken("missing_field", f"{field}: expected a text, found {_kind(value)}")
    if not empty and not value.strip():
        kind = "empty_prompt" if field.startswith(("prompt", "instruction", "input", "question")) else "empty_answer"
        raise Broken(kind, f"{field}: is empty")
    return value


def read_messages(value: Any, field: str = "messages") -> list[tuple[ChatMessage, bool]]:
    """The messages of a conversation, each with whether it is learnt (`weight` is not 0).

    Raises:
        Broken: A field is missing or wrong; a call or its result does not fit.
    """
    if not isinstance(value, list) or not value:
        raise Broken("missing_field", f"{field}: expected a list of messages, found {_kind(value)}")
    found = []
    calls: set[str] = set()
    for index, item in enumerate(value):
        place = f"{field}[{index}]"
        if not isinstance(item, dict):
            raise Broken("missing_field", f"{place}: expected an object with role and content, found {_kind(item)}")
        message = _message(item, place)
        if message.role == "tool" and message.tool_call_id is not None and message.tool_call_id not in calls:
            raise Broken(
                "broken_tool_call", f"{place}.tool_call_id: no earlier message calls {message.tool_call_id!r}"
            )
        calls.update(call.id for call in message.tool_calls)
        found.append((message, _weight(item.get("weight", 1), place)))
    return found


def read_tools(value: Any, field: str = "tools") -> tuple[Tool, ...]:
    """OpenAI's tools; a string is read as JSON (columns of tables have one)."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Broken("missing_field", f"{field}: expected a list of functions, found a text") from None
    if not isinstance(value, list):
        raise Broken("missing_field", f"{field}: expected a list of functions, found {_kind(value)}")
    tools = []
    for index, item in enumerate(value):
        function = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Broken("missing_field", f"{field}[{index}].function.name: expected a text")
        parameters = function.get("parameters") or {}
        tools.append(
            Tool(
                name=function["name"],
                description=function.get("description"),
                parameters=parameters if isinstance(parameters, str) else _json(parameters),
            )
        )
    return tuple(tools)


def turns(messages: Sequence[tuple[ChatMessage, bool]], tools: tuple[Tool, ...], field: str) -> list[Turn]:
    """A turn for each answer that is learnt, with the messages before it.

    Raises:
        Broken: No answer, an empty one, or one to nothing.
    """
    rows = []
    answers = 0
    for index, (message, learnt) in enumerate(messages):
        if message.role != "assistant":
            continue
        answers += 1
        before = tuple(earlier for earlier, _ in messages[:index])
        if not any(earlier.role in {"user", "tool"} for earlier in before):
            raise Broken("broken_roles", f"{field}[{index}]: an assistant's message before any of the user")
        if not learnt:
            continue
        if not message.content.strip() and not message.tool_calls:
            raise Broken("empty_answer", f"{field}[{index}].content: the answer is empty")
        rows.append(Turn(messages=before, tools=tools, answer=message))
    if not answers:
        raise Broken("broken_roles", f"{field}: no message of the assistant, so there is nothing to learn")
    return rows


def _message(item: dict[str, Any], place: str) -> ChatMessage:
    role = item.get("role")
    if role not in ROLES:
        raise Broken("broken_roles", f"{place}.role: expected one of {', '.join(ROLES)}, found {role!r:.40}")
    if "function_call" in item:
        raise Broken("missing_field", f"{place}.function_call: the old form of calls; write tool_calls")
    calls = tuple(_call(call, f"{place}.tool_calls[{n}]") for n, call in enumerate(item.get("tool_calls") or ()))
    if calls and role != "assistant":
        raise Broken("broken_roles", f"{place}.tool_calls: in a message of the {role}; only the assistant calls")
    content = item.get("content")
    if content is None and not calls:
        raise Broken("missing_field", f"{place}.content: expected a text, found nothing")
    name, call_id = item.get("name"), item.get("tool_call_id")
    return ChatMessage(
        role=role,
        content=_content(content, f"{place}.content"),
        name=None if name is None else text(name, f"{place}.name"),
        tool_calls=calls,
        tool_call_id=None if call_id is None else text(call_id, f"{place}.tool_call_id"),
    )


def _content(value: Any, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, list):
        return text(value, field)
    parts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") not in {"text", "input_text", "output_text"}:
            found = part.get("type") if isinstance(part, dict) else _kind(part)
            raise Broken("missing_field", f"{field}[{index}]: expected a part of type 'text', found {found!r}")
        parts.append(text(part.get("text"), f"{field}[{index}].text"))
    return "".join(parts)


def _call(value: Any, place: str) -> ToolCall:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Broken("broken_tool_call", f"{place}.function.name: expected a text")
    arguments = function.get("arguments", "{}")
    if not isinstance(arguments, str):
        arguments = _json(arguments)
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise Broken(
            "broken_tool_call", f"{place}.function.arguments: expected a JSON object, found {arguments!r:.60}"
        )
    return ToolCall(id=str(value.get("id") or ""), name=function["name"], arguments=arguments)


def _weight(value: Any, place: str) -> bool:
    if isinstance(value, bool) or value not in (0, 1):
        raise Broken("missing_field", f"{place}.weight: expected 0 or 1, found {value!r:.40}")
    return bool(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _kind(value: Any) -> str:
    names = {type(None): "nothing", dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return names.get(type(value), "a number") if value != [] else "an empty list"
