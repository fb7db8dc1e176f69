"""Which tokens a sequence may never choose, or only in some places: allowed tokens and bad words.

A list that would leave nothing to choose counts for nothing in that place: a grammar wins over allowed tokens, both
over bad words, all over `min_tokens`. A sequence always goes on.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]
"""The logits of one sequence: float32 [V]."""
Ids = NDArray[np.intp]
"""Token ids."""

NEVER = np.float32(-np.inf)
"""The logit of what is not chosen."""


def ids_of(tokens: Iterable[int]) -> Ids:
    """Distinct ids, ascending."""
    return np.array(sorted(set(tokens)), dtype=np.intp)


def forbid(row: Row, ids: Ids) -> None:
    """Make tokens impossible, in place, unless no other is possible."""
    before = row[ids]
    row[ids] = NEVER
    if row.max() == NEVER:
        row[ids] = before


def allow_only(row: Row, ids: Ids) -> None:
    """Make all but these tokens impossible, in place, unless none of them is possible."""
    allowed = row[ids]
    if allowed.max() > NEVER:
        row[:] = NEVER
        row[ids] = allowed


class BadWords:
    """Sequences of tokens that an answer does not get: its last token is impossible after its others.

    Args:
        words: Their token ids, each at least one.
    """

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        self._always = [word[-1] for word in words if len(word) == 1]
        self._after: defaultdict[int, list[tuple[list[int], int]]] = defaultdict(list)
        """By the last token before a word's last one: those before it, and the last one."""
        for word in words:
            if len(word) > 1:
                self._after[word[-2]].append((list(word[:-1]), word[-1]))

    def next(self, answer: list[int]) -> Ids:
        """The tokens that would complete one after these tokens of the answer."""
        ids = list(self._always)
        if answer:
            for head, last in self._after.get(answer[-1], ()):
                if answer[-len(head) :] == head:
                    ids.append(last)
        return ids_of(ids)
