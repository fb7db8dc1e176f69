"""Variables of a template, and a last message that is continued."""

from contextlib import AsyncExitStack

import pytest

from shared.contracts.replica import ChatMessage, TemplateOptions, ToolCall
from shared.errors import InvalidInput
from shared.text.template import ChatTemplate
from shared.text.template_options import template_variables
from shared.text.tokenizer import Tokenizer
from tests.support.fakes.memory_replica import memory_replica, request
from tests.support.models.chat_templates import CHATML, LLAMA3, QWEN3_CODER
from tests.support.models.small_tokenizers import byte_level

HELLO = ChatMessage(role="user", content="hi")
BEGUN = ChatMessage(role="assistant", content="The sky is ")


@pytest.fixture
async def prompt():
    """The prompt of a conversation, as text."""
    async with AsyncExitStack() as stack:

        async def made(template: str, *messages: ChatMessage, **options: object) -> str:
            replica = await memory_replica(stack, Tokenizer(byte_level()), template=template, max_len=512)
            asked = request(messages=messages, template=TemplateOptions(**options), return_prompt=True)
            return (await replica.generate(asked)).prompt_text

        yield made


async def test_a_last_message_is_left_open(prompt):
    start = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert await prompt(CHATML, HELLO, BEGUN, continue_final_message=True) == f"{start}The sky is "
    assert await prompt(CHATML, HELLO, BEGUN) == f"{start}The sky is <|im_end|>\n<|im_start|>assistant\n"
    assert await prompt(CHATML, HELLO, add_generation_prompt=False) == "<|im_start|>user\nhi<|im_end|>\n"
    assert await prompt(CHATML, HELLO, continue_final_message=True) == "<|im_start|>user\nhi"
    empty = ChatMessage(role="assistant")
    assert await prompt(CHATML, HELLO, empty, continue_final_message=True) == start


async def test_a_template_that_strips_texts_strips_the_open_one(prompt):
    assert await prompt(QWEN3_CODER, HELLO, BEGUN, continue_final_message=True) == "<user>hi<assistant>The sky is"


async def test_a_message_that_says_the_same_before_is_not_the_last(prompt):
    text = await prompt(CHATML, BEGUN, HELLO, BEGUN, continue_final_message=True)
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nThe sky is ")


async def test_what_cannot_be_continued_is_refused(prompt):
    called = BEGUN.model_copy(update={"tool_calls": (ToolCall(id="1", name="f", arguments="{}"),)})
    for template, last in ((LLAMA3, called), ("{{ messages[0].content }}", BEGUN)):
        with pytest.raises(InvalidInput) as error:
            await prompt(template, HELLO, last, continue_final_message=True)
        assert error.value.param == "continue_final_message"


def test_variables_reach_the_template():
    template = ChatTemplate("{{ enable_thinking }} {{ effort is defined }} {{ more.a[0] }}")
    assert template.render([], variables={"enable_thinking": False, "more": {"a": [1]}}) == "False False 1"


@pytest.mark.parametrize(
    "name", ["messages", "tools", "add_generation_prompt", "bos_token", "raise_exception", "range", "chat_template"]
)
def test_a_variable_replaces_nothing_of_the_prompt(name):
    template = ChatTemplate("{{ messages }}")
    with pytest.raises(InvalidInput, match=name) as error:
        template.render([{"role": "user"}], variables={name: None})
    assert error.value.param == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize("text", ["[]", "{", '{"a": NaN}', '{"a":' * 200 + "1" + "}" * 200])
def test_variables_are_an_object(text):
    with pytest.raises(InvalidInput, match="chat_template_kwargs"):
        template_variables(text)
