"""A compiled grammar, and one sequence's position in it."""

import time
from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from services.inference.text.grammar.compile_error import compile_error
from services.inference.text.grammar.limits import MASK_LIMIT_S, limits
from services.inference.text.grammar.source import GrammarSource
from shared.errors import InvalidInput
from shared.panics import no_panics


class CompiledGrammar:
    """A grammar for one tokenizer; every sequence gets its own position in it.

    Compiling takes milliseconds, for large schemas hundreds, without the GIL. `GrammarProcess` has tried the grammar
    before, so compiling ends, and within its memory limit.

    Raises:
        InvalidInput: It does not compile; the field is named.
    """

    def __init__(self, tokenizer: LLTokenizer, source: GrammarSource) -> None:
        self._param = source.param
        self._words = -(-tokenizer.vocab_size // 32)
        self._eos = np.array(tokenizer.eos_tokens, dtype=np.int64)
        with no_panics(lambda reason: compile_error(source, reason)):
            grammar = LLMatcher.grammar_from_lark(source.lark)
            self._matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits())
        if self._matcher.is_error():
            raise compile_error(source, self._matcher.get_error())

    def start(self, resumed: Sequence[int] = (), *, param: str | None = None) -> "GrammarConstraint":
        """A sequence's constraint.

        Args:
            resumed: Tokens that it has generated already. An EOS token may end them.
            param: The field that errors name, if not that of the source.

        Raises:
            InvalidInput: The grammar does not allow `resumed`.
        """
        constraint = GrammarConstraint(self._matcher.deep_copy(), self._words, self._eos, param or self._param)
        for token in resumed:
            constraint.accept(token)
        constraint.check()
        return constraint


class GrammarConstraint:
    """One sequence's position in a grammar. Implements `services.inference.engine.sampling.constraint.Constraint`."""

    def __init__(self, matcher: LLMatcher, words: int, eos: NDArray[np.int64], param: str) -> None:
        self._matcher = matcher
        self._mask: NDArray[np.uint32] = np.zeros(words, dtype=np.uint32)
        self._eos = eos
        self._param = param
        self._slow = False
        self.finished = matcher.is_stopped() and not matcher.is_error()
        """Whether the grammar allows no further token."""

    def mask(self) -> NDArray[np.uint32]:
        """See `Constraint.mask`."""
        self.check()
        begun = time.thread_time()
        with no_panics(self._too_complex):
            self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if time.thread_time() - begun > MASK_LIMIT_S:
            self._slow = True
        self.check()
        return self._mask

    def accept(self, token: int) -> None:
        """See `Constraint.accept`."""
        with no_panics(self._too_complex):
            self._matcher.consume_token(token)
        self.finished = self._matcher.is_stopped() and not self._matcher.is_error()

    def check(self) -> None:
        """Raise `InvalidInput` if the sequence cannot go on: the grammar is too complex, or a token did not fit."""
        if self._matcher.is_error() or self._slow:
            reason = "a step takes too long" if self._slow else self._matcher.get_error().splitlines()[0]
            raise self._too_complex(reason)

    def _too_complex(self, reason: str) -> InvalidInput:
        return InvalidInput(
            f"{self._param} is too complex to go on with the answer ({reason}); simplify it", param=self._param
        )
