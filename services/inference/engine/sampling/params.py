"""How tokens are chosen, and the score of a chosen one."""

from dataclasses import dataclass

from pydantic import ValidationError

from shared.contracts.sampling import SamplingValues
from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SamplingParams(SamplingValues):
    """How the tokens of one sequence are chosen, and when it ends.

    `max_tokens` counts the tokens of `SequenceRequest.resumed`, too.

    Raises:
        InvalidInput: A value is outside its range; `param` names it.
    """

    eos_token_ids: tuple[int, ...] = ()
    """The model's."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Token ids of each, at least one: the last is not chosen where the answer ends with the others."""
    not_first: tuple[int, ...] = ()
    """Tokens that are not chosen first."""
    no_repeat_ngram: int = 0
    """So many tokens do not follow one another twice in prompt and answer; 0: they may."""

    timestamp_begin: int | None = None
    """The id of the timestamp 0.00, where the answer has timestamps."""

    def __post_init__(self) -> None:
        try:
            self.check_ranges()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            param = str(first["loc"][0])
            raise InvalidInput(f"{param}: {first['msg']} (got {first['input']!r:.80})", param=param) from error
        if self.min_tokens > self.max_tokens:
            raise InvalidInput("min_tokens must be from 0 to max_tokens", param="min_tokens")

    @property
    def ending_ids(self) -> tuple[int, ...]:
        """The tokens that end the sequence."""
        return self.stop_token_ids if self.ignore_eos else (*self.eos_token_ids, *self.stop_token_ids)

    @property
    def penalises(self) -> bool:
        """Whether tokens that were there before weigh less, or more."""
        return bool(self.repetition_penalty != 1.0 or self.presence_penalty or self.frequency_penalty)

    @property
    def restricts(self) -> bool:
        """Whether some tokens are not chosen, everywhere or in some places."""
        return (
            bool(self.bad_words or self.not_first or self.no_repeat_ngram or self.timestamp_begin)
            or self.allowed_token_ids is not None
        )

    def ends(self, token: int) -> bool:
        """Whether `token` ends the sequence."""
        return token in self.stop_token_ids or (not self.ignore_eos and token in self.eos_token_ids)


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token with its probability under the model alone: before temperature, penalties, bias and masks."""

    token: int
    logprob: float | None
    """Natural logarithm. None for the first token of a prompt, which nothing predicts."""
    top: tuple[tuple[int, float], ...] = ()
    """(token, logprob) of the likeliest in its place, likeliest first; of equal ones the lowest id first."""
    rank: int | None = None
    """Of a prompt's token: its place among all by likelihood, the likeliest is 1; None for the first."""
