"""One request to an encoder: its texts as tokens, and its result."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
TokenArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TokenRow:
    """One text, or a pair of texts, as the graph reads it; both arrays have the same length of at least 1."""

    ids: TokenArray
    type_ids: TokenArray | None = None
    """None: all 0."""
    offsets: TokenArray | None = None
    """int64 `[tokens, 2]`: the characters of the text that each token stands for, begin and end; -1 for a special
    token. None: they were not asked for."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class EncodeRequest:
    """One or more texts, each of at least one token."""

    id: str
    rows: tuple[TokenRow, ...]
    tenant: str = ""

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(map(len, self.rows))


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The result of a request."""

    vectors: tuple[Vector, ...]
    """`[output_size]` each, of a classifier of tokens `[tokens, output_size]`, in the order of the rows."""
    queue_s: float
    """Seconds from admission to the first batch with one of its rows."""
    compute_s: float
    """Seconds from there to the end of the last batch with one of its rows."""
