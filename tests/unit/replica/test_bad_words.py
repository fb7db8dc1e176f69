"""Bad words and allowed tokens from a request to its answer."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from devtools.convert.gguf.tokenizer import build_tokenizer
from services.inference.replica.generate.bad_words import bad_word_ids
from shared.errors import InvalidInput
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


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("before", ["", " ", "\n"])
async def test_a_word_is_known_by_its_tokens_wherever_a_word_may_begin(name, before):
    tokenizer = TOKENIZERS[name]
    for word in ("fox", "the", "é👍"):
        words = await bad_word_ids(tokenizer, ["other", word])
        written = tuple(tokenizer.encode(f"a{before}{word}" if before else word))
        assert any(written[-len(each) :] == each for each in words), (word, written, words)


async def test_space_before_a_word_counts_for_nothing_and_many_words_are_tokenised_as_few():
    tokenizer = TOKENIZERS["byte level"]
    assert await bad_word_ids(tokenizer, [" \n fox"]) == await bad_word_ids(tokenizer, ["fox"])
    words = [f"word{index}" for index in range(40)]
    one_by_one = [await bad_word_ids(tokenizer, [word]) for word in words]
    assert await bad_word_ids(tokenizer, words) == tuple(dict.fromkeys(ids for each in one_by_one for ids in each))


async def test_a_word_without_tokens_is_refused_by_its_place():
    with pytest.raises(InvalidInput) as caught:
        await bad_word_ids(TOKENIZERS["byte level"], ["fox", "\n"])
    assert caught.value.param == "bad_words.1"


async def answered(stack, tokenizer, script, prompt, **sampling):
    """The answer to a prompt, and to its resumption after each token, by a model that wants to say `script`."""
    decoder = KnownAnswerDecoder(tokenizer.encode(prompt + script), vocab_size=tokenizer.vocab_size, max_len=128)
    replica = await memory_replica(stack, tokenizer, decoder=decoder, max_len=128)
    count = len(tokenizer.encode(prompt + script)) - len(tokenizer.encode(prompt))
    options = {"max_tokens": count, "ignore_eos": True, **sampling}
    frames = await replica.frames_of(request(prompt=prompt, sampling=options))
    tokens = tuple(token for frame in frames for token in frame.token_ids)
    for cut in range(1, count):
        again = request(f"r{cut}", prompt=prompt, sampling=options, resume_token_ids=tokens[:cut])
        resumed = await replica.frames_of(again)
        assert tokens[:cut] + tuple(token for frame in resumed for token in frame.token_ids) == tokens
    return "".join(frame.text for frame in frames), tokens


@pytest.mark.parametrize("name", TOKENIZERS)
async def test_an_answer_does_not_get_a_bad_word_that_its_prompt_has(stack, name):
    prompt, script = "The quick fox and", " the quick fox."
    plain, tokens = await answered(stack, TOKENIZERS[name], script, prompt)
    assert plain == script
    text, other = await answered(stack, TOKENIZERS[name], script, prompt, bad_words=("fox",))
    assert "fox" not in text
    differ = next(index for index, pair in enumerate(zip(tokens, other, strict=True)) if pair[0] != pair[1])
    assert text.startswith(" the quick"), "it goes another way only where the word would be complete"
    assert differ >= len(TOKENIZERS[name].encode(prompt + " the quick")) - len(TOKENIZERS[name].encode(prompt))


async def test_an_answer_has_only_allowed_tokens(stack):
    tokenizer = TOKENIZERS["byte level"]
    allowed = tuple(tokenizer.encode(" the."))
    _, tokens = await answered(stack, tokenizer, " the quick fox.", "The fox and", allowed_token_ids=allowed)
    assert set(tokens) <= set(allowed)
    assert len(set(tokens)) > 1


async def test_an_allowed_token_outside_the_vocabulary_is_refused_by_name(stack):
    replica = await memory_replica(stack, TOKENIZERS["byte level"])
    with pytest.raises(InvalidInput, match="names token 999999") as caught:
        await replica.generate(request(sampling={"allowed_token_ids": (5, 999_999)}))
    assert caught.value.param == "allowed_token_ids"
