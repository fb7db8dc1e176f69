"""What a replica says of an answer's two ends: whether it begins with thoughts, and what ended it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from shared.contracts.gateway import FinishReason
from shared.contracts.replica import ChatMessage, Grammar, TemplateOptions
from shared.errors import ContextLengthExceeded
from shared.text.tokenizer import Tokenizer
from tests.support.fakes.memory_replica import KnownAnswerDecoder, memory_replica, request
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())
QWEN3 = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content.split('</think>')[-1] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""The model thinks unless it is told not to."""
DEEPSEEK_R1 = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content.split('</think>')[-1] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
)
"""The model always thinks."""
PLAIN = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<assistant>"
OFF = TemplateOptions(variables='{"enable_thinking": false}')
HELLO = (ChatMessage(role="user", content="is <think> a tag? <think>"),)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.mark.parametrize(
    ("template", "fields", "thinking"),
    [
        (QWEN3, {}, "may"),
        (QWEN3, {"template": OFF}, "none"),
        (QWEN3, {"grammar": Grammar(kind="json_object"), "sampling": {"ignore_eos": False}}, "none"),
        (DEEPSEEK_R1, {}, "open"),
        (PLAIN, {}, "none"),
    ],
)
async def test_a_replica_says_whether_an_answer_begins_with_thoughts(
    stack: AsyncExitStack, template: str, fields: dict[str, object], thinking: str
) -> None:
    replica = await memory_replica(stack, TOKENIZER, template=template, max_len=256)
    accepted = await replica.generate(request(messages=HELLO, **fields))
    assert accepted.thinking == thinking
    assert (await replica.generate(request("raw", prompt="<think>"))).thinking == "none"


@pytest.mark.parametrize("resumed", [0, 2])
async def test_the_last_frame_names_the_stop_string_that_ended_the_answer(
    stack: AsyncExitStack, resumed: int
) -> None:
    prompt, answer = TOKENIZER.encode("hello"), TOKENIZER.encode(" one STOP two")
    decoder = KnownAnswerDecoder([*prompt, *answer], vocab_size=TOKENIZER.vocab_size)
    replica = await memory_replica(stack, TOKENIZER, decoder=decoder)
    stopping = request(
        sampling={"stop": ["nothing", "STOP"], "max_tokens": len(answer)},
        prompt="hello",
        resume_token_ids=tuple(answer[:resumed]),
    )
    frames = await replica.frames_of(stopping)
    assert (frames[-1].finish_reason, frames[-1].stop_string) == (FinishReason.STOP, "STOP")
    assert all(frame.stop_string is None for frame in frames[:-1])
    cut = await replica.frames_of(request("cut", sampling={"stop": ["STOP"], "max_tokens": 2}, prompt="hello"))
    assert (cut[-1].finish_reason, cut[-1].stop_string) == (FinishReason.LENGTH, None)


async def test_max_tokens_is_cut_to_what_fits_if_the_request_says_so(stack: AsyncExitStack) -> None:
    replica = await memory_replica(stack, TOKENIZER, max_len=32)
    with pytest.raises(ContextLengthExceeded, match="max_tokens is 1000"):
        await replica.generate(request("strict", sampling={"max_tokens": 1000}))
    frames = await replica.frames_of(request("cut", sampling={"max_tokens": 1000}, clip_max_tokens=True))
    usage = frames[-1].usage
    assert usage is not None
    assert usage.prompt_tokens + usage.completion_tokens == 32
    assert frames[-1].finish_reason is FinishReason.LENGTH
    few = await replica.frames_of(request("few", sampling={"max_tokens": 3}, clip_max_tokens=True))
    assert few[-1].usage is not None
    assert few[-1].usage.completion_tokens == 3
    with pytest.raises(ContextLengthExceeded):
        await replica.generate(request("long", prompt="x y z " * 100, clip_max_tokens=True))
