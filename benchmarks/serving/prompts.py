"""Prompts of random words: no two share more than their first few tokens, so no server answers from a cache."""

import random

_TEXT = (
    "time year people way day man thing woman life child world school state family student group country problem "
    "hand part place case week company system program question work government number night point home water room "
    "mother area money story fact month lot right study book eye job word business issue side kind head house "
    "service friend father power hour game line end member law car city community name president team"
)
WORDS = _TEXT.split()

Messages = list[dict[str, str]]


def words(rng: random.Random, count: int) -> str:
    """`count` English words; about as many tokens."""
    return " ".join(rng.choice(WORDS) for _ in range(count))


def listing(rng: random.Random, count: int) -> Messages:
    """A chat of one message with `count` random words."""
    return [{"role": "user", "content": f"Continue this list of words: {words(rng, count)}"}]


def listings(seed: str, requests: int, count: int) -> list[Messages]:
    """`requests` chats, the same for the same seed: every side of a round is asked the same."""
    rng = random.Random(seed)
    return [listing(rng, count) for _ in range(requests)]
