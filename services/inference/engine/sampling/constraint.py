"""What a grammar tells the engine. `services.inference.text.grammar.compiled.GrammarConstraint` is one.

mask() -> the choice of a token -> accept(token) -> mask() -> …          until `finished`
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Constraint(Protocol):
    """Which tokens one sequence may go on with. Used on the engine's thread, and before `submit` on another.

    It stands where the sequence stands: whoever makes it for a resumed sequence has it accept those tokens.
    """

    @property
    def finished(self) -> bool:
        """Whether nothing may follow: the sequence ends."""
        ...

    def mask(self) -> NDArray[np.uint32]:
        """The ids allowed for the next token, one bit each, lowest first: uint32 [ceil(vocab_size / 32)].

        At least one id is allowed unless `finished`. EOS is allowed where the grammar may end.
        Valid until the next call. Takes milliseconds at most. Raises `InvalidInput` when the grammar turns out to be
        too complex: this sequence cannot go on.
        """
        ...

    def accept(self, token: int) -> None:
        """Go on past a token that was chosen by the last mask. Never raises: what is wrong, `mask` tells."""
        ...
