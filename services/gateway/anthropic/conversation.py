"""Anthropic's conversation as the contract's messages.

Results of tools become messages of their own, in the place where they stand. Messages of one role that follow one
another become one, as Anthropic has it: many templates refuse two of them. For the same reason only the beginning has
system messages: those that come later are text of the user, in the tag that Claude Code writes around such texts.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from services.gateway.anthropic.blocks import Block, Message, TextBlock, text_of
from shared.contracts.replica import ChatMessage, ToolCall
from shared.errors import InvalidInput
from shared.text.client_json import json_text

_ERROR = "Error: "
"""Before the result of a tool that failed: chat templates know no other way to say it."""
_LATE = "<system-reminder>\n{}\n</system-reminder>"


def chat_messages(system: tuple[TextBlock, ...], messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
    """The contract's messages.

    Raises `InvalidInput` naming the message where a result has no call in the message before, or a call no result.
    """
    chat: list[ChatMessage] = []
    if system:
        chat.append(ChatMessage(role="system", content=text_of(system)))
    begun = False
    """Whether anything but system messages came."""
    calls: list[str] = []
    """Ids of the calls of the message before, which this one must have results of."""
    for index, message in enumerate(messages):
        results = [block.tool_use_id or "" for block in message.content if block.type == "tool_result"]
        _check_results(index, results, calls)
        calls = [block.id or "" for block in message.content if block.type == "tool_use"]
        begun = begun or message.role != "system"
        chat += _assistant(message) if message.role == "assistant" else _others(message, begun=begun)
    _check_results(len(messages), [], calls)
    return tuple(_joined(chat))


def _check_results(index: int, results: Sequence[str], calls: Sequence[str]) -> None:
    param, known, answered = f"messages.{index}", set(calls), set(results)
    for given in results:
        if given not in known:
            raise InvalidInput(
                f"{param}.content: unexpected tool_use_id found in tool_result blocks: {given:.80}. Each tool_result"
                " block has a tool_use block with its id in the message before",
                param=f"{param}.content",
            )
    if len(answered) < len(results):
        raise InvalidInput(f"{param}.content: two tool_result blocks have one tool_use_id", param=f"{param}.content")
    if missing := [call for call in calls if call not in answered]:
        raise InvalidInput(
            f"messages.{index - 1}: tool_use ids were found without tool_result blocks immediately after:"
            f" {', '.join(missing):.200}. The message after a tool_use block has a tool_result block with its id",
            param=f"messages.{index - 1}",
        )


def _assistant(message: Message) -> list[ChatMessage]:
    said = [block.text or "" for block in message.content if block.type == "text"]
    thought = [block.thinking or "" for block in message.content if block.type == "thinking"]
    return [
        ChatMessage(
            role="assistant",
            content="\n".join(said),
            reasoning="\n".join(thought) or None,
            tool_calls=tuple(_call(block) for block in message.content if block.type == "tool_use"),
        )
    ]


def _call(block: Block) -> ToolCall:
    return ToolCall(id=block.id or "", name=block.name or "", arguments=json_text(block.input or {}))


def _others(message: Message, *, begun: bool) -> list[ChatMessage]:
    """The texts and results of a message, in order.

    Args:
        message: Of the user, or of the system.
        begun: Whether anything but system messages came before.
    """
    if message.role == "system":
        text = "\n".join(block.text or "" for block in message.content)
        return [
            ChatMessage(role="user", content=_LATE.format(text))
            if begun
            else ChatMessage(role="system", content=text)
        ]
    return [
        ChatMessage(
            role="tool",
            content=f"{_ERROR if block.is_error else ''}{text_of(block.content or ())}",
            tool_call_id=block.tool_use_id,
        )
        if block.type == "tool_result"
        else ChatMessage(role="user", content=block.text or "")
        for block in message.content or (Block(type="text", text=""),)
    ]


def _joined(chat: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    """The messages, those of one role in a row as one; each result of a tool is a message of its own."""
    for role, group in groupby(chat, key=lambda message: message.role):
        messages = list(group)
        if role == "tool" or len(messages) == 1:
            yield from messages
            continue
        yield ChatMessage(
            role=role,
            content="\n".join(each.content for each in messages if each.content),
            reasoning="\n".join(each.reasoning for each in messages if each.reasoning) or None,
            tool_calls=tuple(call for each in messages for call in each.tool_calls),
        )
