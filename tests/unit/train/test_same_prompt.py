"""The prompt that is trained on is the prompt that a replica computes, to the id, for every family's template."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers import Tokenizer as HfTokenizer

from devtools.convert.decoder_version import decoder_spec, write_version
from devtools.train.base import open_base
from devtools.train.examples import rendering
from services.inference.replica.generate.model import LoadedModel
from services.inference.replica.generate.replica import _template
from shared.contracts.replica import ChatMessage, Generate, Tool, ToolCall
from shared.errors import InvalidInput
from shared.text.prompt import PromptBuilder
from shared.text.special_tokens import special_tokens
from shared.text.template_traits import traits_of
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_model import write_small_gguf
from tests.support.models.small_tokenizers import byte_level
from tests.support.train.templates import ENDS, EOS, TEMPLATES

pytestmark = pytest.mark.train
CONTROL = ["<|begin_of_text|>", *dict.fromkeys([*ENDS.values(), *EOS.values()])]
TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["<|im_end|>", " a ", "<think>x</think>y"]
)
CALL = ToolCall(id="call_1", name="weather", arguments='{"city": "Zürich"}')
TOOLS = (Tool(name="weather", description="now", parameters='{"type": "object", "properties": {"city": {}}}'),)


@st.composite
def conversations(draw):
    """Turns of user and assistant, sometimes with a system's or developer's message, a call and its result."""
    messages = [
        ChatMessage(role=role, content=draw(TEXT))
        for role in draw(st.sampled_from([(), ("system",), ("developer",)]))
    ]
    for _ in range(draw(st.integers(0, 2))):
        messages += [ChatMessage(role="user", content=draw(TEXT)), ChatMessage(role="assistant", content=draw(TEXT))]
    tools = draw(st.sampled_from([(), TOOLS]))
    messages.append(ChatMessage(role="user", content=draw(TEXT)))
    if tools and draw(st.booleans()):
        messages.append(ChatMessage(role="assistant", content=draw(TEXT), tool_calls=(CALL,)))
        messages.append(ChatMessage(role="tool", content=draw(TEXT), tool_call_id="call_1"))
    return tuple(messages), tools


def model_of(folder: Path, name: str):
    """A model with the template and the control tokens of a family."""
    model = open_base(write_small_gguf(folder / "base.gguf"))
    tokenizer = HfTokenizer.from_str(byte_level(350))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    ends = (tokenizer.token_to_id(EOS.get(name, ENDS[name])), tokenizer.token_to_id(ENDS[name]))
    text = replace(
        model.text,
        tokenizer=tokenizer,
        chat_template=TEMPLATES[name],
        bos_token_id=tokenizer.token_to_id("<|begin_of_text|>"),
        eos_token_ids=tuple(dict.fromkeys(ends)),
        add_bos_token=True,
    )
    return replace(model, text=text)


def loaded(folder: Path, model) -> LoadedModel:
    """What a replica reads from the files of the version."""
    spec = decoder_spec(model)
    write_version(model, folder)
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    return LoadedModel(
        decoder=None,
        tokenizer=tokenizer,
        template=(folder / "chat_template.jinja").read_text(encoding="utf-8"),
        special_tokens=special_tokens(tokenizer, spec),
    )


async def ids_or_refusal(prompt):
    """The token ids, or the message of the refusal: a template may refuse, and then both do."""
    try:
        return await prompt
    except InvalidInput as error:
        return error.message


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompt_ids_of_the_trainer_are_those_of_the_replica(tmp_path, name):
    model = model_of(tmp_path, name)
    version = loaded(tmp_path / "version", model)

    async def compare(cases) -> int:
        refused = 0
        async with AsyncExitStack() as stack:
            template = await _template(version, stack)
            replica = PromptBuilder(
                version.tokenizer, template, decoder_spec(model),
                max_len=model.architecture.context_length, traits=await traits_of(template),
            )  # fmt: skip
            renderer = await stack.enter_async_context(rendering(model, max_len=64))
            assert renderer.tokenizer.token(renderer._turn_end) == ENDS[name]
            for messages, tools in cases:
                request = Generate(request_id="r", gateway_id="g", messages=messages, tools=tools)
                expected = await ids_or_refusal(replica.token_ids(request))
                assert await ids_or_refusal(renderer.prompt_ids(messages, tools)) == expected
                refused += isinstance(expected, str)
        return refused

    seen = []

    @settings(max_examples=2)
    @given(st.lists(conversations(), min_size=30, max_size=30))
    def run(cases):
        seen.append((len(cases), asyncio.run(compare(cases))))

    run()
    assert sum(refused for _, refused in seen) < sum(count for count, _ in seen), "some prompts were compared"
