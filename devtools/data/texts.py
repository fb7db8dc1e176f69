"""The texts of a row: read them, or put others in their place."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from devtools.data.rows import Item, Pair, Row, Text, Turn
from shared.contracts.replica import ChatMessage, ToolCall

Change = Callable[[str], str]


def messages_of(row: Row) -> tuple[ChatMessage, ...]:
    """All messages of a row, answers last."""
    match row:
        case Turn():
            return (*row.messages, row.answer)
        case Pair():
            return (*row.messages, row.chosen, row.rejected)
        case Item():
            return row.messages
        case Text():
            return ()


def texts_of(row: Row) -> Iterator[str]:
    """Every text that a person or a model wrote: contents, arguments of calls, choices, references."""
    match row:
        case Text():
            yield row.text
        case Item():
            yield from (text for text in (row.prompt, *row.choices, *row.references) if text)
    for message in messages_of(row):
        if message.content:
            yield message.content
        yield from (call.arguments for call in message.tool_calls)


def answers_of(row: Row) -> tuple[str, ...]:
    """What is learnt from the row, or for an item what is compared."""
    match row:
        case Text():
            return (row.text,)
        case Turn():
            return (row.answer.content,)
        case Pair():
            return (row.chosen.content, row.rejected.content)
        case Item():
            return (*row.choices, *row.references)


def body_of(row: Row) -> str:
    """The row as one text without instructions to the system, which many rows share."""
    if isinstance(row, Text):
        return row.text
    parts = [message.content for message in messages_of(row) if message.role not in {"system", "developer"}]
    if isinstance(row, Item):
        parts += [row.prompt, *row.choices, *row.references]
    return "\n".join(part for part in parts if part)


def prompt_of(row: Row) -> str:
    """All before the answer as one text; empty for a text."""
    if isinstance(row, Text):
        return ""
    prompt = [f"{message.role}\x1f{message.content}" for message in row.messages]
    return "\x1e".join([*prompt, row.prompt] if isinstance(row, Item) else prompt)


def with_texts(row: Row, change: Change) -> Row:
    """The row with each of its texts changed; the same object if none is. Roles, names and tools stay."""
    fields: dict[str, Any] = {}
    match row:
        case Text():
            fields["text"] = change(row.text)
        case Turn():
            fields |= {"messages": _all(row.messages, change), "answer": _message(row.answer, change)}
        case Pair():
            fields |= {
                "messages": _all(row.messages, change),
                "chosen": _message(row.chosen, change),
                "rejected": _message(row.rejected, change),
            }
        case Item():
            fields |= {
                "messages": _all(row.messages, change),
                "prompt": change(row.prompt),
                "choices": tuple(map(change, row.choices)),
                "references": tuple(map(change, row.references)),
            }
    changed = {name: value for name, value in fields.items() if value != getattr(row, name)}
    return row.model_copy(update=changed) if changed else row


def _all(messages: Iterable[ChatMessage], change: Change) -> tuple[ChatMessage, ...]:
    return tuple(_message(message, change) for message in messages)


def _message(message: ChatMessage, change: Change) -> ChatMessage:
    content = change(message.content) if message.content else message.content
    calls = tuple(_call(call, change) for call in message.tool_calls)
    if content == message.content and calls == message.tool_calls:
        return message
    return message.model_copy(update={"content": content, "tool_calls": calls})


def _call(call: ToolCall, change: Change) -> ToolCall:
    """Arguments are JSON: values are changed, and the JSON stays one."""
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return call.model_copy(update={"arguments": change(call.arguments)})
    changed = _value(arguments, change)
    if changed == arguments:
        return call
    return call.model_copy(update={"arguments": json.dumps(changed, ensure_ascii=False)})


def _value(value: Any, change: Change) -> Any:
    match value:
        case str():
            return change(value)
        case dict():
            return {key: _value(item, change) for key, item in value.items()}
        case list():
            return [_value(item, change) for item in value]
        case bool() | None:
            return value
        case _:
            text = str(value)
            changed = change(text)
            return value if changed == text else changed
