"""Items as the messages of a conversation. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.contracts.replica import ChatMessage, ToolCall
from shared.errors import InvalidInput

Item = Mapping[str, Any]
"""As it is stored."""


def check_results(items: Sequence[Item], begin: int) -> None:
    """Raise `InvalidInput` for a result, among those from `begin` on, before which there is no call of its id."""
    called: set[str] = set()
    for index, item in enumerate(items):
        if item["type"] == "function_call":
            called.add(item["call_id"])
        elif item["type"] == "function_call_output" and index >= begin and item["call_id"] not in called:
            raise InvalidInput(
                f"no function_call has the call_id {item['call_id']!r:.80} before its output; send the call too, or"
                " continue the response that made it with previous_response_id",
                param=f"input.{index - begin}.call_id",
            )


def chat_messages(instructions: str | None, items: Sequence[Item]) -> tuple[ChatMessage, ...]:
    """The conversation as a chat has it: thoughts, text and calls of one turn are one message."""
    first = (ChatMessage(role="system", content=instructions),) if instructions else ()
    return (*first, *_messages(items))


@dataclass(slots=True)
class _Turn:
    """An assistant's message that is put together."""

    reasoning: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def message(self) -> ChatMessage:
        return ChatMessage(
            role="assistant",
            content="\n".join(self.texts),
            tool_calls=tuple(self.calls),
            reasoning="\n".join(self.reasoning) or None,
        )


def _messages(items: Sequence[Item]) -> Iterator[ChatMessage]:
    turn: _Turn | None = None
    names: dict[str, str] = {}
    for item in items:
        kind = item["type"]
        if kind == "message" and item["role"] == "assistant":
            if turn is not None and (turn.texts or turn.calls):
                yield turn.message()
                turn = None
            turn = turn or _Turn()
            turn.texts.append(_text(item))
        elif kind == "function_call":
            turn = turn or _Turn()
            names[item["call_id"]] = item["name"]
            turn.calls.append(ToolCall(id=item["call_id"], name=item["name"], arguments=item["arguments"]))
        elif kind == "reasoning":
            if turn is not None and (turn.texts or turn.calls):
                yield turn.message()
                turn = None
            turn = turn or _Turn()
            turn.reasoning += [part["text"] for part in item["content"] or item["summary"]]
        else:
            if turn is not None:
                yield turn.message()
                turn = None
            yield _other(item, names)
    if turn is not None:
        yield turn.message()


def _other(item: Item, names: Mapping[str, str]) -> ChatMessage:
    """The message of an item that is not the assistant's."""
    if item["type"] == "function_call_output":
        call_id = item["call_id"]
        return ChatMessage(role="tool", content=item["output"], tool_call_id=call_id, name=names.get(call_id))
    return ChatMessage(role=item["role"], content=_text(item))


def _text(item: Item) -> str:
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in item["content"])
