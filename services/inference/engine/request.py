"""A request to the engine, and its update after a step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.inference.engine.decoder import Source
from services.inference.engine.sampling.constraint import Constraint
from services.inference.engine.sampling.params import SamplingParams, TokenScore
from shared.contracts.gateway import FinishReason, Timings
from shared.errors import LlmosError


@dataclass(frozen=True, slots=True)
class SequenceRequest:
    """A generation to run."""

    request_id: str
    prompt: Sequence[int]
    resumed: Sequence[int] = ()
    """Tokens that another replica generated: they count as generated and are not delivered again."""
    sampling: SamplingParams = field(kw_only=True)
    tenant: str = field(default="", kw_only=True)
    """Turns and the queue are shared between tenants."""
    cache_salt: str = field(default="", kw_only=True)
    """Blocks of the prefix cache are shared only between requests of the same salt."""
    constraint: Constraint | None = field(default=None, kw_only=True)
    """The grammar of the answer; it has accepted `resumed`. From `submit` on it belongs to the executor."""

    source: Source | None = field(default=None, kw_only=True)
    """What the encoder reads, where the decoder has one (`SourceDecoder`)."""

    @property
    def reads_cache(self) -> bool:
        """Whether the prefix cache may be used: not if the logits after each token of the prompt are needed."""
        return self.sampling.prompt_logprobs is None

    @property
    def scores_prompt(self) -> bool:
        """Whether log probabilities of the prompt's tokens are delivered; a resumed request has had them before."""
        return self.sampling.prompt_logprobs is not None and not self.resumed


@dataclass(slots=True)
class SequenceUpdate:
    """The effect of one step on one sequence. Exactly one update of each sequence has `finish`, its last."""

    request_id: str
    token_ids: tuple[int, ...]
    """New tokens. An end-of-sequence token is delivered here, with `finish` STOP, and has no text."""
    finish: FinishReason | None
    timings: Timings | None
    """With `finish` only."""
    prompt_tokens: int
    completion_tokens: int
    """Generated so far, with those of `SequenceRequest.resumed`."""
    error: LlmosError | None = None
    """With `finish` ERROR only."""
    scores: tuple[TokenScore, ...] = ()
    """With `SamplingParams.logprobs`: one for each of `token_ids`."""
    prompt_scores: tuple[TokenScore, ...] = ()
    """With `SamplingParams.prompt_logprobs`: the prompt's next tokens. All come before the first of `token_ids`."""
    cached_tokens: int = 0
    """Prompt tokens that were copied from the prefix cache, without those of `SequenceRequest.resumed`."""
