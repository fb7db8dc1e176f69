"""The state of one open request, and its end."""

from dataclasses import dataclass, field

from opentelemetry.context import Context

from services.inference.text.answer_text import AnswerText
from services.inference.text.token_texts import TokenTexts
from shared.contracts.gateway import FinishReason, Timings, Usage
from shared.errors import LlmosError


@dataclass(frozen=True, slots=True)
class Finish:
    """Why a stream ends."""

    reason: FinishReason
    error: LlmosError | None = None


@dataclass(slots=True)
class Stream:
    """The state of one open request."""

    request_id: str
    gateway_id: str
    answer: AnswerText
    prompt_tokens: int
    resumed_tokens: int = 0
    """Tokens that another replica generated before."""
    max_tokens: int = 0
    deadline: float | None = None
    """Seconds on this process's monotonic clock."""
    accepted_ns: int = 0
    """Unix time in nanoseconds."""
    context: Context = field(default_factory=Context)
    """The trace that the request belongs to."""
    cached_tokens: int = 0
    """Prompt tokens that came from the prefix cache."""
    token_texts: TokenTexts | None = None
    """Set if the request asks for log probabilities."""
    seq: int = 0
    """Sequence number of the next frame."""
    steps: int = 0
    """Steps in which it got tokens."""
    batch_max: int = 0
    """The largest number of sequences that got a token in one of these steps, this one included."""
    batch_sum: int = 0
    """The sum of these numbers."""
    finish: Finish | None = None
    """Set once the stream is to end; the terminal frame follows."""

    @property
    def usage(self) -> Usage:
        """Tokens so far; those of a resumed answer included."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.answer.tokens,
            cached_tokens=self.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """A request that got its terminal frame."""

    stream: Stream
    finish: Finish
    timings: Timings
