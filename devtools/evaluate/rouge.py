"""ROUGE-1, ROUGE-2 and ROUGE-L: F-measures of single words, pairs of words and the longest common subsequence.

The numbers are those of Google's `rouge-score` without stemming (Lin 2004): words are runs of a-z and 0-9 in lower
case, everything else separates them. Texts in other scripts have no words by this rule and get 0.
"""

import re
from collections import Counter
from collections.abc import Sequence

_SEPARATORS = re.compile(r"[^a-z0-9]+")


def rouge(answer: str, reference: str) -> dict[str, float]:
    """`rouge1`, `rouge2` and `rougeL`, 0 to 1."""
    ours, theirs = _words(answer), _words(reference)
    return {
        "rougeL": _f_measure(_common_subsequence(ours, theirs), len(ours), len(theirs)),
        "rouge1": _of_grams(ours, theirs, 1),
        "rouge2": _of_grams(ours, theirs, 2),
    }


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text.lower()) if word]


def _of_grams(ours: Sequence[str], theirs: Sequence[str], n: int) -> float:
    first, second = (Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (ours, theirs))
    return _f_measure((first & second).total(), first.total(), second.total())


def _f_measure(same: int, ours: int, theirs: int) -> float:
    precision, recall = same / max(ours, 1), same / max(theirs, 1)
    return 2 * precision * recall / (precision + recall) if same else 0.0


def _common_subsequence(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(theirs) + 1)
    for word in ours:
        diagonal = 0
        for index, other in enumerate(theirs, start=1):
            above = row[index]
            row[index] = diagonal + 1 if word == other else max(above, row[index - 1])
            diagonal = above
    return row[-1]
