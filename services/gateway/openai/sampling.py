"""What chat and completion requests have in common: how tokens are chosen, and when an answer ends."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.gateway.http.parameters import Ignored
from shared.contracts.sampling import MAX_LOGIT_BIAS, LogitBias, Sampling, StopStrings

MAX_CHOICES = 128
"""Answers to one request, at most."""

_SEEDS = 1 << 64
_GOLDEN = 0x9E3779B97F4A7C15


class StreamOptions(BaseModel):
    """Only for streams."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """vLLM's: with `include_usage`, each chunk has the usage of its choice so far."""
    include_obfuscation: Annotated[bool | None, Ignored("streams are for the team's own networks")] = None


def _stop_list(stop: object) -> object:
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,)
    return tuple(stop) if isinstance(stop, list) else stop


def _bias_pairs(bias: object) -> object:
    """OpenAI's map of ids, which JSON makes strings, as pairs."""
    if bias is None:
        return None
    if not isinstance(bias, Mapping):
        msg = 'expected an object of token ids and numbers, like {"1234": -100}'
        raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueErrors
    if len(bias) > MAX_LOGIT_BIAS:
        msg = f"{len(bias)} tokens are named; at most {MAX_LOGIT_BIAS} may be"
        raise ValueError(msg)
    for key in bias:
        if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10):
            msg = f"{key!r} is no token id; keys are numbers like '1234'"
            raise ValueError(msg)
    return tuple((int(key), value) for key, value in bias.items())


class SamplingRequest(Sampling):
    """The fields that both have: the contract's, with what OpenAI's and vLLM's clients send besides."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Answers to each prompt; each is what a request alone with its seed would get."""
    top_k: int | None = Field(default=None, ge=-1)
    """vLLM's; 0 or -1 is off."""
    seed: int | None = Field(default=None, ge=-(1 << 63), le=_SEEDS - 1)
    logit_bias: Annotated[
        LogitBias | None,
        BeforeValidator(_bias_pairs),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
                    {"type": "null"},
                ]
            }
        ),
    ] = None
    stop: Annotated[
        StopStrings | None,
        BeforeValidator(_stop_list),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
        ),
    ] = ()
    return_token_ids: bool | None = None
    """vLLM's: return the ids of the tokens of prompt and answers."""
    return_tokens_as_token_ids: bool | None = None
    """vLLM's: log probabilities name tokens as `token_id:1234`."""
    cache_salt: str | None = Field(default=None, min_length=1, max_length=256)
    """vLLM's: of one key's prompts, those share the prefix cache that have the same salt."""

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """Whether each chunk of a stream has the usage so far."""
        return bool(self.include_usage and self.stream_options and self.stream_options.continuous_usage_stats)

    @property
    def returns_prompt(self) -> bool:
        """Whether the answer has the prompt's tokens or text."""
        return bool(self.return_token_ids)

    def limit(self) -> int | None:
        """The most tokens to generate; None: as many as fit."""
        return self.max_tokens

    def scored(self) -> int | None:
        """Most probable tokens to list for each token of the answer; None: no log probabilities."""
        return None

    @property
    def returns_prompt_logprobs(self) -> bool:
        """Whether the answer has vLLM's `prompt_logprobs`."""
        return self.prompt_logprobs is not None and not self.stream

    def scored_prompt(self) -> int | None:
        """Most probable tokens to list for each token of the prompt; None: no log probabilities."""
        return self.prompt_logprobs if self.returns_prompt_logprobs else None

    def scores_each_prompt(self) -> bool:
        """Whether every answer to a prompt comes with the prompt's log probabilities; otherwise the first does."""
        return False

    def samplings(self, random_seed: int) -> tuple[Sampling, ...]:
        """The contract's sampling for each answer to a prompt: equal but for the seed and the prompt's scores."""
        first = self.sampling(random_seed)
        further = first if self.scores_each_prompt() else first.model_copy(update={"prompt_logprobs": None})
        seeds = [seed_of(self._seed(random_seed), choice) for choice in range(1, self.choices)]
        return (first, *(further.model_copy(update={"seed": seed}) for seed in seeds))

    def sampling(self, random_seed: int) -> Sampling:
        """The contract's sampling; `random_seed` where the client gave none, so that a resume is consistent."""
        fields = {name: getattr(self, name) for name in Sampling.model_fields}
        fields |= {
            "max_tokens": self.limit(),
            "top_k": None if self.top_k is None else max(0, self.top_k),
            "seed": self._seed(random_seed),
            "logprobs": self.scored(),
            "prompt_logprobs": self.scored_prompt(),
        }
        return Sampling(**fields)

    def _seed(self, random_seed: int) -> int:
        return (random_seed if self.seed is None else self.seed) % _SEEDS


def seed_of(seed: int, choice: int) -> int:
    """The seed of one of several answers: that of a request alone for the first, another stream for each further."""
    return (seed + choice * _GOLDEN) % _SEEDS
