"""Allowed tokens and bad words: which tokens a sequence may choose, everywhere or after certain tokens.

A list that would leave no token is ignored at that position: a grammar has precedence over allowed tokens, both over
bad words, all over `min_tokens`. A sequence can always continue.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

LogitsRow = NDArray[np.float32]
"""The logits of one sequence: float32 [V]."""
TokenIds = NDArray[np.intp]
"""Token ids."""

NEVER = np.float32(-np.inf)
"""The logit of an impossible token."""


def ids_of(tokens: Iterable[int]) -> TokenIds:
    """Distinct ids, ascending."""
    return np.array(sorted(set(tokens)), dtype=np.intp)


def forbid(row: LogitsRow, ids: TokenIds) -> None:
    """Make tokens impossible, in place, unless no other token is possible."""
    before = row[ids]
    row[ids] = NEVER
    if row.max() == NEVER:
        row[ids] = before


def allow_only(row: LogitsRow, ids: TokenIds) -> None:
    """Make all but these tokens impossible, in place, unless none of them is possible."""
    allowed = row[ids]
    if allowed.max() > NEVER:
        row[:] = NEVER
        row[ids] = allowed


class BadWords:
    """Token sequences that must not occur in an answer: the last token is impossible after the others.

    Args:
        words: The sequences, each at least one token.
    """

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        self._always = [word[-1] for word in words if len(word) == 1]
        self._after: defaultdict[int, list[tuple[list[int], int]]] = defaultdict(list)
        """By the last token before a word's last one: those before it, and the last one."""
        for word in words:
            if len(word) > 1:
                self._after[word[-2]].append((list(word[:-1]), word[-1]))

    def next(self, answer: list[int]) -> TokenIds:
        """The tokens that would complete one after these tokens of the answer."""
        ids = list(self._always)
        if answer:
            for head, last in self._after.get(answer[-1], ()):
                if answer[-len(head) :] == head:
                    ids.append(last)
        return ids_of(ids)
