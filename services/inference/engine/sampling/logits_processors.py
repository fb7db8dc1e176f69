"""What changes a row of logits before a token is chosen: masks, bias and penalties, in vLLM's order."""

from collections.abc import Sequence as SequenceOf

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.sampling.allowed_tokens import NEVER, BadWords, Row, allow_only, forbid, ids_of
from services.inference.engine.sampling.params import SamplingParams

Mask = NDArray[np.uint32]
"""Allowed ids, packed: bit i % 32 of word i // 32 is token i; uint32 [ceil(V / 32)]."""


class Adjuster:
    """The allowed tokens, the bad words, the minimal length, the bias and the penalties of one sequence.

    Its state is a function of the tokens alone, so a resumed sequence goes on as it would have.

    Args:
        params: The sequence's.
        tokens: The sequence's, prompt and answer; the list grows, and is read at each `apply`.
        prompt_tokens: How many of `tokens` are the prompt.
    """

    def __init__(self, params: SamplingParams, tokens: list[int], prompt_tokens: int) -> None:
        self._params = params
        self._tokens = tokens
        self._prompt_tokens = prompt_tokens
        self._allowed = None if params.allowed_token_ids is None else ids_of(params.allowed_token_ids)
        self._bad_words = BadWords(params.bad_words) if params.bad_words else None
        self._ending = ids_of(params.ending_ids)
        bias = dict(params.logit_bias)
        self._bias_ids = np.array(list(bias), dtype=np.intp)
        self._bias = np.array(list(bias.values()), dtype=np.float32)
        self._counts = _Counts(tokens[:prompt_tokens] if params.repetition_penalty != 1.0 else [])
        self._counted = prompt_tokens

    @staticmethod
    def of(params: SamplingParams, tokens: list[int], prompt_tokens: int) -> "Adjuster | None":
        """An adjuster, or None if `params` ask for nothing that it does."""
        asked = params.penalises or params.logit_bias or params.min_tokens or params.restricts
        return Adjuster(params, tokens, prompt_tokens) if asked else None

    def apply(self, row: Row, ahead: SequenceOf[int] = ()) -> None:
        """Change the logits for the next token, in place. Masks were applied before.

        `ahead` are tokens that were chosen, but are not in the sequence's list yet.
        """
        tokens = [*self._tokens, *ahead] if ahead else self._tokens
        if self._allowed is not None:
            allow_only(row, self._allowed)
        if self._bad_words is not None:
            forbid(row, self._bad_words.next(tokens, self._prompt_tokens))
        if len(tokens) - self._prompt_tokens < self._params.min_tokens:
            forbid(row, self._ending)
        if self._bias.size:
            row[self._bias_ids] += self._bias
        if self._params.penalises:
            self._penalise(row, tokens)

    def _penalise(self, row: Row, tokens: list[int]) -> None:
        """Repetition as in CTRL (Keskar et al. 2019, arXiv:1909.05858), then OpenAI's frequency and presence."""
        for token in tokens[self._counted :]:
            self._counts.add(token)
        self._counted = len(tokens)
        ids, counts = self._counts.arrays()
        logits = row[ids]
        if (factor := np.float32(self._params.repetition_penalty)) != 1.0:
            logits = np.where(logits > 0, logits / factor, logits * factor)
        logits -= np.float32(self._params.frequency_penalty) * counts
        logits -= np.float32(self._params.presence_penalty) * (counts > 0)
        row[ids] = logits


class _Counts:
    """How often the answer has each token; those of the prompt count 0.

    Args:
        prompt: Its token ids.
    """

    def __init__(self, prompt: list[int]) -> None:
        self._places = {token: place for place, token in enumerate(dict.fromkeys(prompt))}
        self._ids = np.array(list(self._places), dtype=np.intp)
        self._counts = np.zeros(len(self._places), dtype=np.float32)

    def add(self, token: int) -> None:
        """Count a token of the answer. Amortised constant time."""
        place = self._places.setdefault(token, len(self._places))
        if place == self._ids.size:
            room = max(64, 2 * place)
            self._ids = np.resize(self._ids, room)
            self._counts = np.concatenate((self._counts, np.zeros(room - place, dtype=np.float32)))
        self._ids[place] = token
        self._counts[place] += 1.0

    def arrays(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Distinct token ids, and how often the answer has each."""
        return self._ids[: len(self._places)], self._counts[: len(self._places)]


def apply_mask(row: Row, mask: Mask) -> None:
    """Make the tokens impossible that `mask` does not allow, in place."""
    allowed = np.unpackbits(mask.view(np.uint8), bitorder="little", count=row.size)
    np.copyto(row, NEVER, where=allowed == 0)
