"""A toy pair of languages: words map one to one, an adjective stands behind its noun, the verb at the end."""

import random

NOUNS = ["cat", "dog", "bird", "horse", "fish", "mouse", "lion", "bear", "wolf", "duck"]
ADJECTIVES = ["red", "big", "small", "old", "fast"]
VERBS = ["sees", "hears", "finds", "likes", "calls"]


def _words(originals: list[str], draw: random.Random) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in originals:
        while word not in found:
            made = "".join(draw.choice("kmptlsn") + draw.choice("aeiou") for _ in range(2)) + draw.choice("nrs")
            if made not in found.values():
                found[word] = made
    return found


DICTIONARY = _words([*NOUNS, *ADJECTIVES, *VERBS], random.Random(3))
Phrase = tuple[str | None, str]
"""Adjective and noun."""
Sentence = tuple[Phrase, str, Phrase]


def sentence(draw: random.Random) -> Sentence:
    def phrase() -> Phrase:
        return (draw.choice(ADJECTIVES) if draw.random() < 0.7 else None, draw.choice(NOUNS))

    return phrase(), draw.choice(VERBS), phrase()


def english(made: Sentence) -> str:
    (first, subject), verb, (second, target) = made
    words = ["the", first, subject, verb, "the", second, target]
    return " ".join(word for word in words if word)


def translated(made: Sentence) -> str:
    (first, subject), verb, (second, target) = made
    words = ["ta", subject, first, "ta", target, second, verb]
    return " ".join(DICTIONARY.get(word, word) for word in words if word)


def plain(made: Sentence) -> Sentence:
    """Without adjectives."""
    (_, subject), verb, (_, target) = made
    return (None, subject), verb, (None, target)


def sentences(count: int, seed: int, without: list[Sentence] | None = None) -> list[Sentence]:
    draw, found = random.Random(seed), dict[Sentence, None]()
    while len(found) < count:
        made = sentence(draw)
        if made not in (without or []):
            found[made] = None
    return list(found)
