"""Anthropic's conversations as the contract's messages."""

from services.gateway.anthropic.blocks import Message
from services.gateway.anthropic.conversation import chat_messages


def test_system_messages_at_the_beginning_stay_and_later_ones_are_text_of_the_user() -> None:
    roles = ("system", "system", "user", "system", "assistant", "system")
    messages = [Message.model_validate({"role": role, "content": f"{role} {i}"}) for i, role in enumerate(roles)]
    late = "<system-reminder>\nsystem {}\n</system-reminder>"
    assert [(each.role, each.content) for each in chat_messages((), messages)] == [
        ("system", "system 0\nsystem 1"),
        ("user", f"user 2\n{late.format(3)}"),
        ("assistant", "assistant 4"),
        ("user", late.format(5)),
    ]


def test_many_long_parts_are_joined_once() -> None:
    part = {"type": "text", "text": "x" * 2000}
    message = Message.model_validate({"role": "user", "content": [part] * 2000})
    (joined,) = chat_messages((), [message] * 4)  # part by part, 64 GB would be copied
    assert len(joined.content) == 4 * 2000 * 2001 - 1


def test_calls_and_thoughts_of_messages_in_a_row_are_one_messages() -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    said = [
        {"role": "assistant", "content": [thought, {"type": "text", "text": "one"}]},
        {"role": "assistant", "content": [thought, call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]},
    ]
    assistant, tool = chat_messages((), [Message.model_validate(each) for each in said])
    assert (assistant.content, assistant.reasoning) == ("one", "hm\nhm")
    assert [made.id for made in assistant.tool_calls] == ["a"]
    assert (tool.role, tool.content, tool.tool_call_id) == ("tool", "", "a")
