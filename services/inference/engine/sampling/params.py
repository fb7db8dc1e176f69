"""How tokens are chosen, and what is told about a chosen one."""

from dataclasses import dataclass

from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the tokens of one sequence are chosen, and when it ends.

    Raises:
        InvalidInput: A value is outside its range; `param` names it.
    """

    max_tokens: int
    """Tokens to generate at most, those of `SequenceRequest.resumed` included."""
    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = 0
    """0: off."""
    top_p: float = 1.0
    """1: off."""
    seed: int = 0
    """64 bits; with the position it is the only source of randomness."""
    eos_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_p: float = 0.0
    """Tokens less likely than this times the likeliest are left out; 0: off."""
    repetition_penalty: float = 1.0
    """Over prompt and answer; 1: off."""
    presence_penalty: float = 0.0
    """Over the answer, like `frequency_penalty`; 0: off."""
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, what is added to its logit)."""
    stop_token_ids: tuple[int, ...] = ()
    """End the sequence as an EOS token does, whatever `ignore_eos` says."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Token ids of each, at least one: the last is not chosen where the answer ends with the others."""
    allowed_token_ids: tuple[int, ...] | None = None
    """The only tokens that are chosen, at least one. None: all."""
    min_tokens: int = 0
    """No token that ends the sequence is chosen before so many."""
    logprobs: int | None = None
    """k: each token is told with its log probability and the k likeliest in its place. None: it is not."""
    prompt_logprobs: int | None = None
    """The same for the prompt's tokens."""

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 0, "max_tokens", "must be at least 0")
        _require(0.0 <= self.temperature < float("inf"), "temperature", "must be 0 (greedy) or a positive number")
        _require(self.top_k >= 0, "top_k", "must be 0 (off) or a positive number")
        _require(0.0 < self.top_p <= 1.0, "top_p", "must be above 0 and at most 1")
        _require(0.0 <= self.min_p <= 1.0, "min_p", "must be from 0 (off) to 1")
        _require(0.0 < self.repetition_penalty < float("inf"), "repetition_penalty", "must be a positive number")
        _require(0 <= self.seed < 1 << 64, "seed", "must be a number of 64 bits")
        _require(0 <= self.min_tokens <= self.max_tokens, "min_tokens", "must be from 0 to max_tokens")

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
        return bool(self.bad_words) or self.allowed_token_ids is not None

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


def _require(holds: bool, param: str, rule: str) -> None:
    if not holds:
        raise InvalidInput(f"{param} {rule}", param=param)
