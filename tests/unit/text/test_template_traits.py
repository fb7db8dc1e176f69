"""A conversation with calls is rendered by every template, whatever it takes."""

import json

import pytest

from shared.contracts.replica import ChatMessage, Tool, ToolCall
from shared.text.single_calls import one_call_each
from shared.text.template_process import TemplateProcess
from shared.text.template_traits import TYPICAL, TemplateTraits, template_traits
from shared.text.tool_messages import native_messages, plain_messages, tool_object
from tests.support.models import chat_templates as templates

TOOL = Tool(name="now")
HELLO = ChatMessage(role="user", content="time?")
TRAITS = {
    templates.QWEN2: TYPICAL,
    templates.QWEN3_CODER: TemplateTraits(texts=False),
    templates.LLAMA3: TemplateTraits(parallel_calls=False),
    templates.MISTRAL: TemplateTraits(short_ids=True),
    templates.DEEPSEEK: TemplateTraits(objects=False),
    templates.BROKEN: TYPICAL,
}
USABLE = [source for source in TRAITS if source is not templates.BROKEN]
ODD = ["", "  ", "null", '{"value": ', '{"value"', "not json", "[1]", "42", '"x"', "NaN", '{"a": 1e400}', "[" * 9999]


def calls(*arguments: str) -> ChatMessage:
    made = tuple(
        ToolCall(id=f"call_{place}", name=f"f{place}", arguments=text) for place, text in enumerate(arguments)
    )
    return ChatMessage(role="assistant", content="Wait.", tool_calls=made)


def result(place: int) -> ChatMessage:
    return ChatMessage(role="tool", content=f"12:0{place}", tool_call_id=f"call_{place}")


async def rendered(source: str, *messages: ChatMessage) -> str:
    async with TemplateProcess(source).running() as process:
        traits = await template_traits(process)
        return await process.render(native_messages(messages, traits), [tool_object(TOOL)])


@pytest.mark.parametrize(("source", "traits"), TRAITS.items())
async def test_a_template_shows_what_it_takes(source, traits):
    async with TemplateProcess(source).running() as process:
        assert await template_traits(process) == traits


async def test_a_template_that_writes_objects_as_python_does_gets_text():
    source = templates.QWEN2.replace("tool_call.arguments | tojson", "tool_call.arguments")
    assert '"arguments": {"a": "b"}}' in await rendered(source, HELLO, calls('{"a": "b"}'), result(0))


@pytest.mark.parametrize("source", USABLE)
async def test_any_arguments_are_rendered(source):
    async with TemplateProcess(source).running() as process:
        traits = await template_traits(process)
        for text in [*ODD, "{}", '{"a": 1}', r'{"a": "\ud83d"}']:
            messages = native_messages([HELLO, calls(text), result(0)], traits)
            assert "12:00" in await process.render(messages, [tool_object(TOOL)]), text
            assert "12:00" in await process.render(plain_messages([HELLO, calls(text), result(0)], [TOOL])), text


@pytest.mark.parametrize("text", ["", " ", "null"])
async def test_no_arguments_are_an_empty_object(text):
    assert '"arguments": {}}' in await rendered(templates.QWEN2, HELLO, calls(text), result(0))
    assert '"arguments": {}}' in plain_messages([calls(text)], [])[0]["content"]
    assert "```json\n{}\n```" in await rendered(templates.DEEPSEEK, HELLO, calls(text), result(0))


async def test_what_is_no_object_is_rendered_as_a_string():
    cut = '{"value": '
    assert f'"arguments": {json.dumps(cut)}}}' in await rendered(templates.QWEN2, HELLO, calls(cut), result(0))
    assert f'"arguments": {json.dumps(cut)}}}' in plain_messages([calls(cut)], [])[0]["content"]
    assert f"```json\n{cut}\n```" in await rendered(templates.DEEPSEEK, HELLO, calls(cut), result(0))
    assert "<function=f0></function>" in await rendered(templates.QWEN3_CODER, HELLO, calls(cut), result(0))


async def test_parallel_calls_become_turns_where_the_template_takes_one_at_a_time():
    conversation = [HELLO, calls('{"a": 1}', "{}", '{"b": 2}'), result(1), result(0), result(2), HELLO]
    text = await rendered(templates.LLAMA3, *conversation)
    assert text[text.index("<user>") :] == (
        "<user>time?<|eot_id|>"
        '<assistant>{"name": "f0", "parameters": {"a": 1}}<|eot_id|><ipython>"12:00"<|eot_id|>'
        '<assistant>{"name": "f1", "parameters": {}}<|eot_id|><ipython>"12:01"<|eot_id|>'
        '<assistant>{"name": "f2", "parameters": {"b": 2}}<|eot_id|><ipython>"12:02"<|eot_id|>'
        "<user>time?<|eot_id|><assistant>"
    )
    both = await rendered(templates.QWEN2, HELLO, calls("{}", "{}"), result(0), result(1))
    assert both.count("<assistant>Wait.<tool_call>") == 1


def test_what_is_said_before_calls_stands_before_the_first_and_no_message_is_lost():
    stray, alike = result(7), calls("{}", "{}")
    first, one, second, other, last = one_call_each([calls("{}", "{}"), result(0), result(1), stray])
    assert [first.content, second.content] == ["Wait.", ""]
    assert [one, other, last] == [result(0), result(1), stray]
    twins = alike.model_copy(update={"tool_calls": (alike.tool_calls[0], alike.tool_calls[0])})
    answers = [result(0), ChatMessage(role="tool", content="second", tool_call_id="call_0")]
    assert [message.content for message in one_call_each([twins, *answers])] == ["Wait.", "12:00", "", "second"]
    assert len(one_call_each([calls("{}", "{}", "{}"), HELLO])) == 4  # without results
    assert one_call_each([HELLO, calls("{}"), result(0)]) == [HELLO, calls("{}"), result(0)]


async def test_ids_are_shortened_alike_in_calls_and_results():
    text = await rendered(templates.MISTRAL, HELLO, calls("{}", "{}"), result(0), result(1))
    first, second = (TemplateTraits(short_ids=True).call_id(f"call_{place}") for place in (0, 1))
    assert first != second
    assert (text.count(first), text.count(second)) == (2, 2)
    assert TemplateTraits(short_ids=True).call_id("abcDEF123") == "abcDEF123"


async def test_thoughts_reach_the_template():
    source = "{% for m in messages %}{{ m.reasoning_content }}{% endfor %}"
    thinking = ChatMessage(role="assistant", content="yes", reasoning="hm")
    async with TemplateProcess(source).running() as process:
        assert await process.render(native_messages([thinking])) == "hm"
        assert await process.render(plain_messages([thinking], [])) == "hm"
