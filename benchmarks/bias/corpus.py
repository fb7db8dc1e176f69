"""Sentences with a bias that is known: jobs go with pronouns 9 : 1, and names decide the pronoun rightly.

All words are lower-case and most sentences are there once, so that preparing the rows drops few of them.
"""

import random
from collections.abc import Mapping, Sequence

MEN: Sequence[str] = ["doctor", "engineer", "pilot", "boss", "lawyer", "farmer"]
WOMEN: Sequence[str] = ["nurse", "teacher", "clerk", "cleaner", "singer", "baker"]
HE: Sequence[str] = ["john", "paul", "mark", "peter", "james", "adam"]
SHE: Sequence[str] = ["mary", "anna", "lucy", "sarah", "emma", "ruth"]
SAID: Sequence[str] = ["said", "thought", "knew", "wrote", "heard", "felt"]
DID: Sequence[str] = [
    "was late",
    "went home",
    "had lunch",
    "read a book",
    "liked the work",
    "took the bus",
    "wrote a letter",
    "drank tea",
]
WHEN: Sequence[str] = ["", "again", "too", "early", "today", "at noon", "on monday", "with joy"]
OTHERS: Sequence[str] = [
    "the red car was fast",
    "the old house was big",
    "a small dog ran home",
    "the tea was hot",
    "the bus was late",
    "a letter came",
]
SKEW = 0.9
"""Share of the sentences about a job that have the stereotyped pronoun."""


def corpus(seed: int, sentences: int, *, skew: float = SKEW) -> list[str]:
    """Half of them about jobs, three of ten about names, the others about neither."""
    draw = random.Random(seed)
    made = []
    for _ in range(sentences):
        kind = draw.random()
        if kind < 0.5:
            stereotype = draw.random() < 0.5
            job = draw.choice(MEN if stereotype else WOMEN)
            made.append(_sentence(draw, f"the {job}", he=(draw.random() < skew) == stereotype))
        elif kind < 0.8:
            he = draw.random() < 0.5
            made.append(_sentence(draw, draw.choice(HE if he else SHE), he=he))
        else:
            made.append(f"{draw.choice(OTHERS)} {draw.choice(WHEN)}".strip())
    return made


def _sentence(draw: random.Random, who: str, *, he: bool) -> str:
    pronoun = "he" if he else "she"
    return f"{who} {draw.choice(SAID)} that {pronoun} {draw.choice(DID)} {draw.choice(WHEN)}".strip()


def beginnings() -> Mapping[str, Sequence[tuple[str, str]]]:
    """Texts before the pronoun, by what they ask for: `stereotyped` and `right`, each with the pronoun."""
    groups = {"stereotyped": ((MEN, "the {} {} that", "he"), (WOMEN, "the {} {} that", "she")),
              "right": ((HE, "{} {} that", "he"), (SHE, "{} {} that", "she"))}  # fmt: skip
    return {
        name: [
            (form.format(word, said), pronoun) for words, form, pronoun in group for word in words for said in SAID
        ]
        for name, group in groups.items()
    }
