"""How a replica is to choose tokens: a part of `shared.contracts.replica.Generate`.

To add a parameter, add it to `Sampling` with its range and to `SamplingValues` with the value that is off, and read
it in the engine. The gateway's request models inherit `Sampling`, and the replica fills `SamplingValues` by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from shared.contracts.base import Contract

MAX_LOGPROBS = 20
"""Likeliest tokens that come with each token, at most: OpenAI's and vLLM's bound."""
MAX_LOGIT_BIAS = 1024
"""Entries of a logit bias, at most: vLLM's bound."""
MAX_BAD_WORDS = 512
MAX_BAD_WORD_CHARS = 128
"""Of one bad word."""
MAX_BAD_WORDS_CHARS = 8192
"""Of all bad words together: what looking for them may cost in each step."""
MAX_ALLOWED_TOKENS = 4096
INTEGERS = 1 << 63
"""Numbers of tokens are below: what other languages' clients send for "no limit" is 2^63 - 1 at most."""


def _check_words(words: tuple[str, ...]) -> tuple[str, ...]:
    for index, word in enumerate(words):
        if not word.strip():
            msg = f"word {index} is only white space"
            raise ValueError(msg)
    total = sum(map(len, words))
    if total > MAX_BAD_WORDS_CHARS:
        msg = f"the words have {total} characters together; at most {MAX_BAD_WORDS_CHARS} are taken"
        raise ValueError(msg)
    return words


TokenId = Annotated[int, Field(ge=0)]
LogitBias = Annotated[
    tuple[tuple[int, Annotated[float, Field(ge=-100.0, le=100.0)]], ...], Field(max_length=MAX_LOGIT_BIAS)
]
StopStrings = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=16)]
AllowedTokens = Annotated[tuple[TokenId, ...], Field(min_length=1, max_length=MAX_ALLOWED_TOKENS)]
BadWords = Annotated[
    tuple[Annotated[str, Field(max_length=MAX_BAD_WORD_CHARS)], ...],
    Field(max_length=MAX_BAD_WORDS),
    AfterValidator(_check_words),
]


class Sampling(Contract):
    """How tokens are chosen and when an answer ends. Names are OpenAI's and vLLM's.

    None stands for "not given": the version's default (`Manifest.defaults`) applies, else that of `SamplingValues`,
    which is off.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    max_tokens: int | None = Field(default=None, ge=0, lt=INTEGERS)
    """Tokens of the answer, at most. Not given: as many as fit in the slot after the prompt. 0: none; only the prompt
    is computed."""
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    """0 is greedy; 1 is the model's own distribution."""
    top_k: int | None = Field(default=None, ge=0)
    """Only the k likeliest tokens are chosen; 0: off."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Only the likeliest tokens that together have this probability are chosen; 1: off."""
    seed: int | None = Field(default=None, ge=0, lt=1 << 64)
    """Randomness is keyed by (seed, position), so a resumed stream is the stream it would have been."""
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    """Tokens less likely than this times the likeliest are left out; 0: off."""
    top_n_sigma: float | None = Field(default=None, ge=0.0, le=100.0)
    """Tokens whose logit is more than this many standard deviations below the largest are not chosen; 0: off."""
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=10.0)
    """Of tokens in prompt or answer: positive logits are divided by it, negative ones multiplied; 1: off."""
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    """Subtracted from the logit of each token that the answer has; 0: off."""
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    """Subtracted from a token's logit as many times as the answer has it; 0: off."""
    logit_bias: LogitBias | None = None
    """(token id, what is added to its logit). An id outside the vocabulary is an error."""
    stop: StopStrings | None = None
    """Texts that end the answer."""
    include_stop_str_in_output: bool | None = None
    """Whether the stop string that ended the answer is part of its text."""
    stop_token_ids: Annotated[tuple[TokenId, ...], Field(max_length=128)] | None = None
    """Tokens that end the answer like an EOS token does, also with `ignore_eos`; they are no part of its text."""
    bad_words: BadWords | None = None
    """The last token of one is not chosen where the answer ends with its others: as it is written at the start of a
    text, and after a space. White space before one counts for nothing."""
    allowed_token_ids: AllowedTokens | None = None
    """The only tokens that are chosen. Not given: all."""
    ignore_eos: bool | None = None
    """Go on past the end of the answer, up to `max_tokens`."""
    min_tokens: int | None = Field(default=None, ge=0)
    """Neither an EOS token nor one of `stop_token_ids` is chosen before this many tokens."""
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    """k: each token comes with its log probability and those of the k likeliest in its place. Not given: without."""
    prompt_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    """The same for the tokens of the prompt."""

    def values(self) -> dict[str, Any]:
        """What is given of the fields of `SamplingValues`, by name."""
        return {name: value for name in _VALUES if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class SamplingValues:
    """`Sampling` with nothing left open, for the engine. Texts (stop strings, bad words) are resolved before it.

    A test holds names and types equal to those of `Sampling`, which documents them.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    top_n_sigma: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None
    ignore_eos: bool = False
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    def check_ranges(self) -> None:
        """Raise `pydantic.ValidationError` unless each value is in its range."""
        Sampling.model_validate({name: getattr(self, name) for name in _VALUES})


def version_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`Manifest.defaults` by the names of `SamplingValues`: `generation_config.json` as vLLM reads it.

    A top_k of -1 is off, and `max_new_tokens` is the default of `max_tokens`. Names that are not known are ignored.
    Raises `pydantic.ValidationError` for a value of a wrong type or out of its range.
    """
    given = {**defaults, "max_tokens": defaults.get("max_new_tokens")}
    if given.get("top_k") == -1:
        given["top_k"] = 0
    return Sampling.model_validate(given).values()


_VALUES = tuple(field.name for field in fields(SamplingValues))

Sampling.EXAMPLE = Sampling(max_tokens=64, temperature=0.0)
