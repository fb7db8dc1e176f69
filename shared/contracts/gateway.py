"""Token frames, and the API keys in KV `LLMOS_TENANTS` (key: key id)."""

from datetime import datetime
from enum import StrEnum

from shared.contracts.base import Contract
from shared.contracts.manifest import Name
from shared.errors import ErrorPayload

TENANTS_BUCKET = "LLMOS_TENANTS"


class FinishReason(StrEnum):
    """Why an answer ended; OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    """The answer is complete and calls tools."""
    CANCELLED = "cancelled"
    ERROR = "error"


class Timings(Contract):
    """Where the time of one request went inside the replica."""

    queue_s: float
    prefill_s: float
    decode_s: float


class Usage(Contract):
    """Tokens counted by the engine."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class ScoredToken(Contract):
    """A token with its probability under the model alone: before temperature, penalties, bias and masks."""

    token_id: int
    text: str
    """How to show it: a control token as the vocabulary writes it, bytes that are no whole character as U+FFFD."""
    bytes: tuple[int, ...] | None = None
    """What it adds to the UTF-8 text, where that differs from `text`: nothing for a control token."""
    logprob: float | None = None
    """Natural logarithm, at least -9999. None for the first token of a prompt, which nothing predicts."""


class TokenLogprob(ScoredToken):
    """A token of a prompt or an answer."""

    top: tuple[ScoredToken, ...] = ()
    """The likeliest tokens in its place, as many as were asked for, likeliest first."""
    rank: int | None = None
    """Of a prompt's token: its place among all by likelihood, the likeliest is 1; None for the first."""


class GeneratedToolCall(Contract):
    """A whole tool call of an answer: one that was not completed is in no frame."""

    index: int
    """Of the call in the answer, from 0."""
    id: str
    name: str
    arguments: str
    """A JSON object as text."""


class Frame(Contract):
    """What one step added to one sequence."""

    request_id: str
    seq: int
    """0, 1, 2, … per request: a gap means that a frame was lost."""
    text: str = ""
    token_ids: tuple[int, ...] = ()
    """The tokens of this frame, also those whose text is held back (half a character, a stop string's start)."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """With `Sampling.logprobs` only: one for each of `token_ids`."""
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    """With `Sampling.prompt_logprobs` only: the next tokens of the prompt. All come before the first of `token_ids`;
    an attempt without `resume_token_ids` sends them again from the first."""
    tool_calls: tuple[GeneratedToolCall, ...] = ()
    """Those that this step completed."""
    finish_reason: FinishReason | None = None
    """Set on exactly one frame, the last."""
    stop_string: str | None = None
    """On the last frame: the stop string that ended the answer."""
    usage: Usage | None = None
    timings: Timings | None = None
    error: ErrorPayload | None = None


class FrameBatch(Contract):
    """One message per engine step and gateway: the deltas of all its sequences."""

    replica_id: Name
    frames: tuple[Frame, ...]


class Scope(StrEnum):
    """What a key may do."""

    INFERENCE = "inference"
    READ = "read"
    TRAIN = "train"
    ADMIN = "admin"


class ApiKey(Contract):
    """A key as it is kept: never the key itself, only its SHA-256 (keys carry 256 random bits)."""

    id: Name
    name: str
    hash: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    """From when on it is refused; None: never."""
    last_used_at: datetime | None = None
    """To within an hour; None: not used yet."""
    revoked: bool = False
    revoked_at: datetime | None = None
    """None: it is not revoked, or was by an LLMOS that did not note the time."""
    may_store: bool = True
    """Whether responses and conversations of its requests may be stored."""


def frames_subject(gateway_id: str) -> str:
    """Where a gateway listens for the frames of its requests."""
    return f"llmos.v1.gateway.{gateway_id}.frames"


Usage.EXAMPLE = Usage(prompt_tokens=37, completion_tokens=8)
GeneratedToolCall.EXAMPLE = GeneratedToolCall(index=0, id="call_1f", name="weather", arguments='{"city": "Paris"}')
Timings.EXAMPLE = Timings(queue_s=0.001, prefill_s=0.09, decode_s=0.4)
ScoredToken.EXAMPLE = ScoredToken(token_id=378, text=" The", logprob=-2.5)
TokenLogprob.EXAMPLE = TokenLogprob(
    token_id=504,
    text="The",
    logprob=-0.25,
    top=(ScoredToken(token_id=504, text="The", logprob=-0.25), ScoredToken.EXAMPLE),
)
Frame.EXAMPLE = Frame(request_id="req-1", seq=0, text="The", token_ids=(504,))
FrameBatch.EXAMPLE = FrameBatch(replica_id="smollm2-1-x7k2", frames=(Frame.EXAMPLE,))
ApiKey.EXAMPLE = ApiKey(
    id="key-3f2a",
    name="admin",
    hash="ef" * 32,
    scopes=(Scope.ADMIN,),
    created_at=datetime.fromisoformat("2026-11-24T12:00:00+00:00"),
)
