"""What chat and completion requests have in common: how tokens are chosen, and what is told about them."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from shared.contracts.replica import MAX_LOGIT_BIAS, Sampling

MAX_CHOICES = 128
"""Answers to one request, at most."""
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


class SamplingRequest(BaseModel):
    """What chat and completion requests have in common."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=-1)
    """vLLM's; 0 or -1 is off."""
    seed: int | None = Field(default=None, ge=-(1 << 63), le=(1 << 64) - 1)
    stop: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
        BeforeValidator(_stop_list),
        Field(max_length=16),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
        ),
    ] = ()
    ignore_eos: bool | None = None
    """vLLM's: go on past the end of the answer, up to max_tokens."""
    cache_salt: str | None = Field(default=None, min_length=1, max_length=256)
    """vLLM's: prompts share the prefix cache only with prompts of the same salt."""

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def limit(self) -> int | None:
        """The most tokens to generate; None: as many as fit."""
        return self.max_tokens

    def sampling(self, random_seed: int) -> Sampling:
        """The contract's sampling; `random_seed` where the client gave none, so that a resume is consistent."""
        return Sampling(
            max_tokens=self.limit(),
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=max(0, self.top_k or 0),
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=(random_seed if self.seed is None else self.seed) % (1 << 64),
            stop=self.stop,
            ignore_eos=bool(self.ignore_eos),
        )
