"""Places in rows where one of two words follows, for losses that act there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from devtools.train.batches import Batch
from devtools.train.examples import Example, Ids
from devtools.train.recipe.tables import Equalise
from shared.errors import InvalidInput
from shared.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Mark:
    """A token that is one of a pair of words.

    position: in the example
    pair: number of the pair
    tokens: the ids of both words
    side: which of them stands there, 0 or 1
    """

    position: int
    pair: int
    tokens: tuple[int, int]
    side: int


class Marker:
    """Finds the marks of examples.

    Args:
        table: The words of the pairs, and those of which a row must have one.
        tokenizer: The model's.

    Raises:
        InvalidInput: a pair whose words are not one token each.
    """

    def __init__(self, table: Equalise, tokenizer: Tokenizer) -> None:
        self._sides: dict[int, tuple[int, tuple[int, int], int]] = {}
        for pair, words in enumerate(table.words):
            for first, second in _single_tokens(words, tokenizer):
                self._sides[first] = (pair, (first, second), 0)
                self._sides[second] = (pair, (first, second), 1)
        self._among = [
            np.array(tokenizer.encode(space + word), np.int32) for word in table.among for space in ("", " ")
        ]
        self._known: dict[int, tuple[Mark, ...]] = {}

    def of(self, example: Example) -> tuple[Mark, ...]:
        """The marks among the tokens that are learnt, in order."""
        known = self._known.get(id(example))
        if known is None:
            known = self._known[id(example)] = tuple(self._find(example))
        return known

    def in_batch(self, batch: Batch) -> list[tuple[int, Mark]]:
        """Each mark with its place among `batch.targets`."""
        found, before = [], 0
        for example in batch.examples:
            found += [(before + mark.position - example.start, mark) for mark in self.of(example)]
            before += example.answer_tokens
        return found

    def _find(self, example: Example) -> list[Mark]:
        if self._among and not any(_contains(example.ids, word) for word in self._among):
            return []
        learnt = enumerate(example.ids[example.start :].tolist(), start=example.start)
        return [Mark(position, *self._sides[token]) for position, token in learnt if token in self._sides]


def _single_tokens(words: tuple[str, str], tokenizer: Tokenizer) -> list[tuple[int, int]]:
    found = []
    for space in (" ", ""):
        ids = [tokenizer.encode(space + word) for word in words]
        if all(len(token) == 1 for token in ids):
            found.append((ids[0][0], ids[1][0]))
    if not found:
        raise InvalidInput(
            f"the words {words[0]!r} and {words[1]!r} are not one token each for this tokenizer; choose others",
            param="robust.words",
        )
    return found


def _contains(ids: Ids, word: Sequence[int] | Ids) -> bool:
    """Whether the ids of `word` stand one after the other in `ids`."""
    text, part = ids.astype(np.int32).tobytes(), np.asarray(word, np.int32).tobytes()
    at = text.find(part)
    while at >= 0 and at % 4:
        at = text.find(part, at + 1)
    return at >= 0
