"""Log probabilities of tokens under the model alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.inference.engine.decoder import Logits
from services.inference.engine.sampling.allowed_tokens import LogitsRow
from services.inference.engine.sampling.filtering import top_k
from services.inference.engine.sampling.params import TokenScore

LEAST = -9999.0
"""For an impossible token, as in OpenAI and vLLM: JSON has no infinity."""


class RowScores:
    """The log probabilities of all tokens at one position.

    Args:
        row: float32 [V]; referenced until `of` or `ranked` is called.
        top: How many of the most probable tokens to return.
    """

    def __init__(self, row: LogitsRow, top: int) -> None:
        peak = row.max()
        self._row = row
        self._shift = float(peak) + float(np.log(np.exp(row - peak).sum(), dtype=np.float64))
        self._top: tuple[tuple[int, float], ...] = ()
        if top:
            ids = top_k(row, top)
            ordered = ids[np.argsort(-row[ids], kind="stable")]
            self._top = tuple((token, self._logprob(token)) for token in ordered.tolist())

    def of(self, token: int) -> TokenScore:
        """The score of one token, with the most probable ones at its position."""
        return TokenScore(token, self._logprob(token), self._top)

    def ranked(self, token: int) -> TokenScore:
        """As `of`, with its rank. Reads the row twice more."""
        logit = self._row[token]
        above = np.count_nonzero(self._row > logit) + np.count_nonzero(self._row[:token] == logit)
        return replace(self.of(token), rank=int(above) + 1)

    def _logprob(self, token: int) -> float:
        return max(LEAST, float(self._row[token]) - self._shift)


def score_chunk(logits: Logits, prompt: Sequence[int], start: int, top: int) -> tuple[TokenScore, ...]:
    """The scores of the prompt's tokens that a chunk predicts; those of the first chunk begin with the first token.

    Args:
        logits: float32 [S, V]; row i follows the token at start + i.
        prompt: All its token ids.
        start: Position of the chunk's first token.
        top: How many of the most probable tokens to return at each position.
    """
    first = (TokenScore(prompt[0], None),) if start == 0 else ()
    predicted = prompt[start + 1 : start + 1 + len(logits)]
    return (*first, *(RowScores(row, top).ranked(token) for row, token in zip(logits, predicted, strict=False)))
