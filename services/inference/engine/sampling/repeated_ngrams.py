"""Which tokens would repeat some tokens in their order."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class RepeatedNgrams:
    """Tokens that may not follow, so that no `size` tokens come twice (Paulus et al. 2017, arXiv:1705.04304).

    Args:
        size: Tokens of what may not come twice.
        tokens: Those that are there.
    """

    def __init__(self, size: int, tokens: Sequence[int]) -> None:
        self._before = size - 1
        self._tokens: list[int] = []
        self._following: dict[tuple[int, ...], list[int]] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """Add a token at the end. Constant time."""
        if (last := self._last()) is not None:
            self._following.setdefault(last, []).append(token)
        self._tokens.append(token)

    def next(self) -> NDArray[np.intp]:
        """The tokens that may not follow now."""
        last = self._last()
        return np.array([] if last is None else self._following.get(last, ()), dtype=np.intp)

    def _last(self) -> tuple[int, ...] | None:
        begin = len(self._tokens) - self._before
        return tuple(self._tokens[begin:]) if begin >= 0 else None
