"""The sampler state of one request, from its first token to its last."""

from collections.abc import Sequence

from services.inference.engine.decoder import Logits
from services.inference.engine.sampling.allowed_tokens import LogitsRow
from services.inference.engine.sampling.constraint import Constraint
from services.inference.engine.sampling.logits_processors import LogitsProcessors
from services.inference.engine.sampling.logprobs import score_chunk
from services.inference.engine.sampling.params import SamplingParams, TokenScore
from services.inference.engine.sampling.sampler import Choice, Draw, choose


class SamplerState:
    """Sampling parameters, logits processors and grammar of one request. Only the executor changes it.

    Args:
        params: The request's.
        prompt: Its token ids.
        resumed: Tokens that were generated elsewhere.
        constraint: The grammar, which has accepted `resumed`.
    """

    __slots__ = ("_constraint", "_params", "_processors", "_prompt")

    def __init__(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        resumed: Sequence[int] = (),
        constraint: Constraint | None = None,
    ) -> None:
        self._params = params
        self._prompt = prompt
        self._constraint = constraint
        self._processors = LogitsProcessors.of(params, prompt, resumed)

    @property
    def grammar_ended(self) -> bool:
        """Whether its grammar allows nothing more."""
        return self._constraint is not None and self._constraint.finished

    def choose(self, logits: LogitsRow, position: int) -> Choice | None:
        """Choose the token at `position` and advance past it; None if the grammar has ended.

        Args:
            logits: float32 [V], contiguous; may be overwritten.
            position: Of the token, counted from the start of the prompt.

        Raises:
            InvalidInput: The grammar turned out to be too complex; the state stays as it is.
        """
        mask = None
        if self._constraint is not None:
            if self._constraint.finished:
                return None
            mask = self._constraint.mask()
        choice = choose(logits, Draw(self._params, position, self._processors, mask))
        if self._processors is not None:
            self._processors.accept(choice.token)
        if self._constraint is not None:
            self._constraint.accept(choice.token)
        return choice

    def score_prompt(self, logits: Logits, start: int) -> tuple[TokenScore, ...]:
        """The scores of the prompt's tokens that the logits of a chunk from `start` on predict."""
        return score_chunk(logits, self._prompt, start, self._params.prompt_logprobs or 0)
