"""Words that rows share with evaluation suites: a model that learnt the test is not measured by it.

As for GPT-3 (Brown et al. 2020, appendix C): 13 words in a row. A shorter item counts as a whole, if it has at least
five words.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from devtools.data.repeat import words
from devtools.data.rows import Row
from devtools.data.texts import texts_of
from shared.errors import InvalidInput

WORDS = 13
_LEAST = 5
Index = NDArray[np.uint64]


def index_of(rows: Iterable[Row]) -> Mapping[int, Index]:
    """Hashes of the word sequences of a suite: by their length, sorted."""
    found: dict[int, set[int]] = {}
    for row in rows:
        for text in texts_of(row):
            having = words(text)
            length = min(WORDS, len(having))
            if length >= _LEAST:
                found.setdefault(length, set()).update(_hashes(having, length))
    return {length: np.array(sorted(hashes), np.uint64) for length, hashes in found.items()}


def overlaps(row: Row, index: Mapping[int, Index]) -> bool:
    """Whether a text of the row has words in a row that the suite has too."""
    for text in texts_of(row):
        having = words(text)
        for length, hashes in index.items():
            own = np.fromiter(_hashes(having, length), np.uint64)
            if len(own):
                places = np.searchsorted(hashes, own)
                places[places == len(hashes)] = 0
                if bool((hashes[places] == own).any()):
                    return True
    return False


def _hashes(having: Sequence[str], length: int) -> Iterator[int]:
    for start in range(len(having) - length + 1):
        key = " ".join(having[start : start + length]).encode()
        yield int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Overlap:
    """Drops rows that share 13 words in a row with one of these suites.

    suites: digests of their versions
    """

    suites: tuple[str, ...]
    name: ClassVar[str] = "overlap"
    version: ClassVar[int] = 1
    indices: Sequence[Mapping[int, Any]] = field(default=(), compare=False, metadata={"recorded": False})

    def __post_init__(self) -> None:
        if len(self.indices) != len(self.suites):
            raise InvalidInput("step overlap: the suites' rows are missing", param="suites")

    def apply(self, row: Row) -> Sequence[Row]:
        """The row, or nothing."""
        return () if any(overlaps(row, index) for index in self.indices) else (row,)
