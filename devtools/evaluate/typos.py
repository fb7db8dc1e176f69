"""Typing errors in a prompt: a model that is robust answers as it does without them."""

import random

from devtools.data.rows import Item

_NEIGHBOURS = {
    "a": "qws", "b": "vgn", "c": "xdv", "d": "sfe", "e": "wrd", "f": "dgr", "g": "fht", "h": "gjy", "i": "uok",
    "j": "hku", "k": "jli", "l": "kop", "m": "nj", "n": "bmh", "o": "ipl", "p": "ol", "q": "wa", "r": "etf",
    "s": "adw", "t": "ryg", "u": "yij", "v": "cbf", "w": "qes", "x": "zcs", "y": "tuh", "z": "xas",
}  # fmt: skip
"""Letters beside a letter on a QWERTY keyboard."""


def with_typos(item: Item, rate: float) -> Item:
    """The item with errors in its prompt or in its last message; always the same ones."""
    seeded = random.Random(item.id)  # noqa: S311  # no secret
    if not item.messages:
        return item.model_copy(update={"prompt": mistype(item.prompt, rate, seeded)})
    last = item.messages[-1]
    last = last.model_copy(update={"content": mistype(last.content, rate, seeded)})
    return item.model_copy(update={"messages": (*item.messages[:-1], last)})


def mistype(text: str, rate: float, seeded: random.Random) -> str:
    """The text in which each letter has an error with probability `rate`.

    The letter is one beside it, missing, doubled, or changes its place with the next letter.
    """
    letters = list(text)
    for index, letter in enumerate(letters):
        if not letter.isalpha() or seeded.random() >= rate:
            continue
        kind = seeded.randrange(4)
        if kind == 0:
            near = seeded.choice(_NEIGHBOURS.get(letter.lower(), letter))
            letters[index] = near.upper() if letter.isupper() else near
        elif kind == 1:
            letters[index] = ""
        elif kind == 2:
            letters[index] = letter * 2
        elif index + 1 < len(letters) and letters[index + 1].isalpha():
            letters[index], letters[index + 1] = letters[index + 1], letter
    return "".join(letters)
