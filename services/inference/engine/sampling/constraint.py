"""The grammar of one sequence. Implemented by `services.inference.text.grammar.compiled.GrammarConstraint`.

mask() -> the choice of a token -> accept(token) -> mask() -> …          until `finished`
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Constraint(Protocol):
    """The tokens that may follow in one sequence. Used on the engine's thread, and before `submit` on another.

    The constraint of a resumed sequence must have accepted the resumed tokens before `submit`.
    """

    @property
    def finished(self) -> bool:
        """Whether no token may follow: the sequence ends."""
        ...

    def mask(self) -> NDArray[np.uint32]:
        """The ids allowed for the next token, one bit each, lowest first: uint32 [ceil(vocab_size / 32)].

        At least one id is allowed unless `finished`. EOS is allowed where the grammar may end.
        Valid until the next call. Takes milliseconds at most. Raises `InvalidInput` when the grammar turns out to be
        too complex: this sequence cannot continue.
        """
        ...

    def accept(self, token: int) -> None:
        """Advance past a token that the last mask allowed. Never raises: the next `mask` does."""
        ...
