"""A prompt and its continuation are one text, also where spaces stand at the start of tokens."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from devtools.convert.gguf.tokenizer import build_tokenizer
from shared.contracts.replica import ChatMessage, Grammar, TemplateOptions
from shared.text.tokenizer import Tokenizer
from tests.support.fakes.memory_replica import KnownAnswerDecoder, memory_replica, request
from tests.support.models.small_tokenizers import byte_level

LEARNT = json.loads(
    (Path(__file__).parents[2] / "support" / "references" / "small_sentencepiece.json").read_text(encoding="utf-8")
)
TOKENIZERS = {
    "sentencepiece": Tokenizer(build_tokenizer(LEARNT["True"]).to_str()),
    "sentencepiece without a first space": Tokenizer(build_tokenizer(LEARNT["False"]).to_str()),
    "byte level": Tokenizer(byte_level()),
}
BOS = 1
PROMPT, ANSWER = "The capital of France is", " Paris 👍 é."


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


async def scripted(stack, tokenizer, prompt, answer, **options):
    decoder = KnownAnswerDecoder([*prompt, *answer], vocab_size=tokenizer.vocab_size, max_len=128)
    return await memory_replica(stack, tokenizer, decoder=decoder, max_len=128, **options)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("as_ids", [False, True])
async def test_a_completion_begins_with_the_space_that_its_tokens_have(stack, name, as_ids):
    tokenizer = TOKENIZERS[name]
    prompt = tokenizer.encode(PROMPT)
    answer = tokenizer.encode(PROMPT + ANSWER)[len(prompt) :]
    assert tokenizer.decode([*prompt, *answer]) == PROMPT + ANSWER
    replica = await scripted(stack, tokenizer, prompt, answer)
    given = {"prompt_token_ids": tuple(prompt)} if as_ids else {"prompt": PROMPT}
    sampling = {"max_tokens": len(answer)}
    frames = await replica.frames_of(request(**given, sampling=sampling))
    assert "".join(frame.text for frame in frames) == ANSWER
    assert not any("�" in frame.text for frame in frames)
    for cut in range(1, len(answer)):
        resumed = await replica.frames_of(
            request(f"r{cut}", **given, sampling=sampling, resume_token_ids=tuple(answer[:cut]))
        )
        assert "".join(frame.text for frame in (*frames[:cut], *resumed)) == ANSWER


@pytest.mark.parametrize(
    "fields", [{"prompt_token_ids": (BOS,)}, {"messages": (ChatMessage(role="user", content="hi"),)}]
)
async def test_an_answer_that_begins_a_text_has_no_space_before_it(stack, fields):
    tokenizer = TOKENIZERS["sentencepiece"]
    answer = tokenizer.encode(PROMPT)
    replica = await scripted(stack, tokenizer, [BOS], answer, template="<s>")
    frames = await replica.frames_of(request(**fields, sampling={"max_tokens": len(answer)}))
    assert "".join(frame.text for frame in frames) == PROMPT


async def test_what_a_grammar_matches_keeps_its_space_in_a_chat_too(stack):
    tokenizer = TOKENIZERS["sentencepiece"]
    replica = await scripted(stack, tokenizer, [BOS], [], template="<s>")
    messages = (ChatMessage(role="user", content="hi"),)
    grammar = Grammar(kind="regex", value=" the")
    frames = await replica.frames_of(request(messages=messages, grammar=grammar, sampling={"ignore_eos": False}))
    assert "".join(frame.text for frame in frames) == " the"


@pytest.mark.parametrize("as_chat", [True, False])
async def test_log_probabilities_spell_the_text_that_the_answer_has(stack, as_chat):
    tokenizer = TOKENIZERS["sentencepiece"]
    prompt = [BOS] if as_chat else [BOS, *tokenizer.encode("So:")]
    answer = tokenizer.encode(PROMPT + ANSWER)
    replica = await scripted(stack, tokenizer, prompt, answer, template="<s>")
    messages = (ChatMessage(role="user", content="hi"),)
    fields = {"messages": messages} if as_chat else {"prompt_token_ids": tuple(prompt)}
    sampling = {"max_tokens": len(answer), "logprobs": 1}
    frames = await replica.frames_of(request(**fields, sampling=sampling))
    text = "".join(frame.text for frame in frames)
    scores = [score for frame in frames for score in frame.logprobs]
    assert text == PROMPT + ANSWER if as_chat else " " + PROMPT + ANSWER
    assert spelt(scores) == text
    assert spelt(scores[0].top) == spelt(scores[:1]), "what could have stood there would have lost its space, too"
    resumed = await replica.frames_of(request("r1", **fields, sampling=sampling, resume_token_ids=tuple(answer[:1])))
    assert [score for frame in resumed for score in frame.logprobs] == scores[1:]


def spelt(scores):
    pieces = (score.text.encode() if score.bytes is None else bytes(score.bytes) for score in scores)
    return b"".join(pieces).decode()


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("continues", [True, False])
async def test_an_answer_that_continues_a_message_begins_with_its_space(stack, name, continues):
    tokenizer = TOKENIZERS[name]
    prompt = tokenizer.encode(PROMPT)
    answer = tokenizer.encode(PROMPT + ANSWER)[len(prompt) :]
    replica = await scripted(stack, tokenizer, prompt, answer, template="{{ messages[0].content }}")
    begun = ChatMessage(role="assistant", content=PROMPT)
    options = TemplateOptions(continue_final_message=continues)
    fields = {"messages": (begun,), "template": options, "sampling": {"max_tokens": len(answer)}}
    frames = await replica.frames_of(request(**fields))
    spaced = continues or not tokenizer.strips_first_space
    assert "".join(frame.text for frame in frames) == (ANSWER if spaced else ANSWER.removeprefix(" "))
