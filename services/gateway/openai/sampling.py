"""What chat and completion requests have in common: how tokens are chosen, and when an answer ends."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from shared.contracts.sampling import (
    MAX_ALLOWED_TOKENS,
    MAX_BAD_WORD_CHARS,
    MAX_BAD_WORDS,
    MAX_BAD_WORDS_CHARS,
    MAX_LOGIT_BIAS,
    MAX_LOGPROBS,
    Sampling,
)

MAX_CHOICES = 128
"""Answers to one request, at most."""

_SEEDS = 1 << 64
_GOLDEN = 0x9E3779B97F4A7C15


class StreamOptions(BaseModel):
    """Only for streams."""

    model_config = ConfigDict(strict=True, frozen=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Accepted without effect."""


def _stop_list(stop: object) -> object:
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,)
    return tuple(stop) if isinstance(stop, list) else stop


def _id_list(ids: object) -> object:
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, list) else ids


def _bias_pairs(bias: object) -> object:
    """OpenAI's map of ids, which JSON makes strings, as pairs."""
    if bias is None:
        return ()
    if not isinstance(bias, Mapping):
        msg = 'expected an object of token ids and numbers, like {"1234": -100}'
        raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueErrors
    if len(bias) > MAX_LOGIT_BIAS:
        msg = f"at most {MAX_LOGIT_BIAS} tokens may be named"
        raise ValueError(msg)
    for key in bias:
        if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10):
            msg = f"{key!r} is no token id; keys are numbers like '1234'"
            raise ValueError(msg)
    return tuple((int(key), value) for key, value in bias.items())


def _word_list(words: object) -> object:
    """Words that an answer is not to have; white space before one counts for nothing."""
    if not isinstance(words, list):
        return () if words is None else words
    for index, word in enumerate(words):
        if isinstance(word, str) and not word.strip():
            msg = f"word {index} is only white space"
            raise ValueError(msg)
    total = sum(len(word) for word in words if isinstance(word, str))
    if total > MAX_BAD_WORDS_CHARS:
        msg = f"the words have {total} characters together; at most {MAX_BAD_WORDS_CHARS} are taken"
        raise ValueError(msg)
    return tuple(words)


class SamplingRequest(BaseModel):
    """The fields that both have."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Answers to each prompt; each is what a request alone with its seed would get."""
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=-1)
    """vLLM's; 0 or -1 is off."""
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    """vLLM's; 0 is off."""
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    repetition_penalty: float | None = Field(default=None, gt=0.0, le=10.0)
    """vLLM's; 1 is off."""
    logit_bias: Annotated[
        tuple[tuple[int, Annotated[float, Field(ge=-100.0, le=100.0)]], ...],
        BeforeValidator(_bias_pairs),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
                    {"type": "null"},
                ]
            }
        ),
    ] = ()
    seed: int | None = Field(default=None, ge=-(1 << 63), le=(1 << 64) - 1)
    stop: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
        BeforeValidator(_stop_list),
        Field(max_length=16),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
        ),
    ] = ()
    include_stop_str_in_output: bool | None = None
    """vLLM's."""
    stop_token_ids: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        BeforeValidator(_id_list),
        Field(max_length=128),
        WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}),
    ] = ()
    """vLLM's: tokens that end the answer, also with `ignore_eos`."""
    bad_words: Annotated[
        tuple[Annotated[str, Field(max_length=MAX_BAD_WORD_CHARS)], ...],
        BeforeValidator(_word_list),
        Field(max_length=MAX_BAD_WORDS),
        WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}),
    ] = ()
    """vLLM's: the answer does not get them."""
    allowed_token_ids: (
        Annotated[
            tuple[Annotated[int, Field(ge=0)], ...],
            Field(strict=False, min_length=1, max_length=MAX_ALLOWED_TOKENS),
        ]
        | None
    ) = None
    """vLLM's: the answer has no other tokens."""
    prompt_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    """vLLM's: tell the log probabilities of the prompt's tokens, and of so many likeliest ones; not in streams."""
    ignore_eos: bool | None = None
    """vLLM's: go on past the end of the answer, up to max_tokens."""
    min_tokens: int | None = Field(default=None, ge=0)
    """vLLM's: no end before so many tokens."""
    return_token_ids: bool | None = None
    """vLLM's: tell the ids of the tokens of prompt and answers."""
    return_tokens_as_token_ids: bool | None = None
    """vLLM's: log probabilities name tokens as `token_id:1234`."""
    cache_salt: str | None = Field(default=None, min_length=1, max_length=256)
    """vLLM's: prompts share the prefix cache only with prompts of the same salt."""

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def returns_prompt(self) -> bool:
        """Whether the answer tells the prompt's tokens or text."""
        return bool(self.return_token_ids)

    def limit(self) -> int | None:
        """The most tokens to generate; None: as many as fit."""
        return self.max_tokens

    def scored(self) -> int | None:
        """Likeliest tokens to tell for each token of the answer; None: no log probabilities."""
        return None

    @property
    def returns_prompt_logprobs(self) -> bool:
        """Whether the answer has vLLM's `prompt_logprobs`."""
        return self.prompt_logprobs is not None and not self.stream

    def scored_prompt(self) -> int | None:
        """Likeliest tokens to tell for each token of the prompt; None: no log probabilities."""
        return self.prompt_logprobs if self.returns_prompt_logprobs else None

    def scores_each_prompt(self) -> bool:
        """Whether every answer to a prompt comes with the prompt's log probabilities; otherwise the first does."""
        return False

    def samplings(self, random_seed: int) -> tuple[Sampling, ...]:
        """The contract's sampling for each answer to a prompt: equal but for seed, and what is told of the prompt."""
        first = self.sampling(random_seed)
        further = first if self.scores_each_prompt() else first.model_copy(update={"prompt_logprobs": None})
        seeds = [seed_of(first.seed, choice) for choice in range(1, self.choices)]
        return (first, *(further.model_copy(update={"seed": seed}) for seed in seeds))

    def sampling(self, random_seed: int) -> Sampling:
        """The contract's sampling; `random_seed` where the client gave none, so that a resume is consistent."""
        return Sampling(
            max_tokens=self.limit(),
            temperature=self.temperature,
            top_k=None if self.top_k is None else max(0, self.top_k),
            top_p=self.top_p,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
            seed=(random_seed if self.seed is None else self.seed) % _SEEDS,
            stop=self.stop,
            include_stop_str_in_output=bool(self.include_stop_str_in_output),
            stop_token_ids=self.stop_token_ids,
            bad_words=self.bad_words,
            allowed_token_ids=self.allowed_token_ids,
            ignore_eos=bool(self.ignore_eos),
            min_tokens=self.min_tokens or 0,
            logprobs=self.scored(),
            prompt_logprobs=self.scored_prompt(),
        )


def seed_of(seed: int, choice: int) -> int:
    """The seed of one of several answers: that of a request alone for the first, another stream for each further."""
    return (seed + choice * _GOLDEN) % _SEEDS
