"""Logits processors: masks, bias, penalties and a cut change a row of logits before the choice, in vLLM's order."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.sampling.allowed_tokens import NEVER, BadWords, LogitsRow, allow_only, forbid, ids_of
from services.inference.engine.sampling.params import SamplingParams
from services.inference.engine.sampling.repeated_ngrams import RepeatedNgrams
from services.inference.engine.sampling.timestamps import apply_timestamp_rules

_LATEST_FIRST = 50
"""Steps of 0.02 s: speech begins within a second of a window, or the window is cut elsewhere."""
Mask = NDArray[np.uint32]
"""Allowed ids, packed: bit i % 32 of word i // 32 is token i; uint32 [ceil(V / 32)]."""


class LogitsProcessors:
    """The allowed tokens, bad words, minimal length, bias, penalties and top-n-sigma of one sequence.

    Their state is a function of the tokens alone, so a resumed sequence continues as it would have.

    Args:
        params: The sequence's.
        prompt: Its token ids.
        answer: Tokens that were generated before, elsewhere.
    """

    def __init__(self, params: SamplingParams, prompt: Sequence[int], answer: Sequence[int] = ()) -> None:
        self._params = params
        self._answer: list[int] = []
        self._allowed = None if params.allowed_token_ids is None else ids_of(params.allowed_token_ids)
        self._bad_words = BadWords(params.bad_words) if params.bad_words else None
        self._not_first = ids_of(params.not_first)
        self._ngrams = RepeatedNgrams(params.no_repeat_ngram, prompt) if params.no_repeat_ngram else None
        self._ending = ids_of(params.ending_ids)
        bias = dict(params.logit_bias)
        self._bias_ids = np.array(list(bias), dtype=np.intp)
        self._bias = np.array(list(bias.values()), dtype=np.float32)
        self._counts = _Counts(prompt if params.repetition_penalty != 1.0 else ())
        for token in answer:
            self.accept(token)

    @staticmethod
    def of(params: SamplingParams, prompt: Sequence[int], answer: Sequence[int] = ()) -> "LogitsProcessors | None":
        """Those of a sequence, or None if `params` ask for none."""
        asked = params.penalises or params.logit_bias or params.min_tokens or params.restricts or params.top_n_sigma
        return LogitsProcessors(params, prompt, answer) if asked else None

    def accept(self, token: int) -> None:
        """Advance past a token that was chosen."""
        self._answer.append(token)
        if self._ngrams is not None:
            self._ngrams.add(token)
        if self._params.penalises:
            self._counts.add(token)

    def apply(self, row: LogitsRow) -> None:
        """Change the logits for the next token, in place. Masks were applied before."""
        if self._allowed is not None:
            allow_only(row, self._allowed)
        if self._bad_words is not None:
            forbid(row, self._bad_words.next(self._answer))
        if not self._answer:
            forbid(row, self._not_first)
        if self._ngrams is not None:
            forbid(row, self._ngrams.next())
        if self._params.timestamp_begin is not None:
            apply_timestamp_rules(
                row,
                self._answer,
                begin=self._params.timestamp_begin,
                eos=self._params.eos_token_ids[0],
                latest_first=_LATEST_FIRST,
            )
        if len(self._answer) < self._params.min_tokens:
            forbid(row, self._ending)
        if self._bias.size:
            row[self._bias_ids] += self._bias
        if self._params.penalises:
            self._penalise(row)
        if self._params.top_n_sigma:
            self._cut(row)

    def _penalise(self, row: LogitsRow) -> None:
        """Repetition as in CTRL (Keskar et al. 2019, arXiv:1909.05858), then OpenAI's frequency and presence."""
        ids, counts = self._counts.arrays()
        logits = row[ids]
        if (factor := np.float32(self._params.repetition_penalty)) != 1.0:
            logits = np.where(logits > 0, logits / factor, logits * factor)
        logits -= np.float32(self._params.frequency_penalty) * counts
        logits -= np.float32(self._params.presence_penalty) * (counts > 0)
        row[ids] = logits

    def _cut(self, row: LogitsRow) -> None:
        """Top-n-sigma (Tang et al. 2024, arXiv:2411.07641), over the tokens that are possible."""
        possible = row[row > NEVER]
        row[row < possible.max() - np.float32(self._params.top_n_sigma) * possible.std()] = NEVER


class _Counts:
    """How often the answer has each token; those of the prompt count 0.

    Args:
        prompt: Its token ids.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self._places = {token: place for place, token in enumerate(dict.fromkeys(prompt))}
        self._ids = np.array(list(self._places), dtype=np.intp)
        self._counts = np.zeros(len(self._places), dtype=np.float32)

    def add(self, token: int) -> None:
        """Count a token of the answer. Amortised constant time."""
        place = self._places.setdefault(token, len(self._places))
        if place == self._ids.size:
            size = max(64, 2 * place)
            self._ids = np.resize(self._ids, size)
            self._counts = np.concatenate((self._counts, np.zeros(size - place, dtype=np.float32)))
        self._ids[place] = token
        self._counts[place] += 1.0

    def arrays(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Distinct token ids, and how often the answer has each."""
        return self._ids[: len(self._places)], self._counts[: len(self._places)]


def apply_mask(row: LogitsRow, mask: Mask) -> None:
    """Make the tokens impossible that `mask` does not allow, in place."""
    allowed = np.unpackbits(mask.view(np.uint8), bitorder="little", count=row.size)
    np.copyto(row, NEVER, where=allowed == 0)
