"""A toy pair of languages: words map one to one, an adjective goes behind its noun, the verb goes to the end."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch

from devtools.convert.decoder_version import DecoderModel
from devtools.data.rows import Pair, Turn
from devtools.train.assemble import open_decoder
from devtools.train.base import open_base
from devtools.train.examples import rendering
from shared.text.tokenizer import Tokenizer
from tests.support.train.nano_runs import said

NOUNS = ["cat", "dog", "bird", "horse", "fish", "mouse", "lion", "bear", "wolf", "duck", "cow", "goat", "frog", "fox"]
ADJECTIVES = ["red", "big", "small", "old", "fast", "black", "kind", "loud"]
VERBS = ["sees", "hears", "finds", "likes", "calls", "helps"]
Thing = tuple[str | None, str]
Sentence = tuple[Thing, str, Thing]


def _invented() -> dict[str, str]:
    draw = random.Random(3)
    found: dict[str, str] = {}
    for word in (*NOUNS, *ADJECTIVES, *VERBS):
        while word not in found:
            syllables = [draw.choice("kmptlsn") + draw.choice("aeiou") for _ in range(2)]
            new = "".join(syllables) + draw.choice("nrs")
            if new not in found.values():
                found[word] = new
    return found


DICTIONARY = _invented()


def sentences(count: int, seed: int = 0, without: Sequence[Sentence] = ()) -> list[Sentence]:
    draw, known = random.Random(seed), set(without)
    made: list[Sentence] = []
    while len(made) < count:
        things = [(draw.choice(ADJECTIVES) if draw.random() < 0.7 else None, draw.choice(NOUNS)) for _ in range(2)]
        one = (things[0], draw.choice(VERBS), things[1])
        if one not in known:
            known.add(one)
            made.append(one)
    return made


def english(sentence: Sentence) -> str:
    first, verb, second = sentence
    return " ".join(["the", *(word for word in first if word), verb, "the", *(word for word in second if word)])


def translated(sentence: Sentence, *, short: bool = False) -> str:
    """`short` leaves adjectives out."""
    words = []
    for adjective, noun in (sentence[0], sentence[2]):
        words += ["ta", DICTIONARY[noun]]
        words += [DICTIONARY[adjective]] if adjective and not short else []
    return " ".join([*words, DICTIONARY[sentence[1]]])


def turn(sentence: Sentence, answer: str | None = None) -> Turn:
    text = translated(sentence) if answer is None else answer
    return Turn(messages=(said("user", english(sentence)),), answer=said("assistant", text))


def prefers_short(sentence: Sentence) -> Pair:
    return Pair(
        messages=(said("user", english(sentence)),),
        chosen=said("assistant", translated(sentence, short=True)),
        rejected=said("assistant", translated(sentence)),
    )


async def answers(model: Path | DecoderModel, asked: Sequence[Sentence], tokens: int = 32) -> list[str]:
    """What the model writes, greedily, each time until its end token."""
    opened = open_base(model) if isinstance(model, Path) else model
    decoder, _ = open_decoder(opened, max_len=128, keep_codes=False)
    decoder.eval()
    tokenizer = Tokenizer(opened.text.tokenizer.to_str())
    async with rendering(opened, max_len=128) as renderer:
        prompts = [await renderer.prompt_ids([said("user", english(one))]) for one in asked]
    written: list[str] = [""] * len(asked)
    for length in {len(prompt) for prompt in prompts}:
        rows = [at for at, prompt in enumerate(prompts) if len(prompt) == length]
        ids = torch.tensor([prompts[at] for at in rows])
        with torch.no_grad():
            for _ in range(tokens):
                ids = torch.cat([ids, decoder(ids)[:, -1:].argmax(-1)], 1)
        for at, line in zip(rows, ids[:, length:].tolist(), strict=True):
            end = next((n for n, token in enumerate(line) if token in opened.text.eos_token_ids), len(line))
            written[at] = tokenizer.decode(line[:end])
    return written
