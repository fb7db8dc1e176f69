"""Updates of an engine step to frames: pure, no clock, no I/O.

Each request has one `Stream` from `open` to its terminal frame. The terminal frame is made from the engine's last
update of the sequence, of which there is exactly one, so there is exactly one terminal frame. Whoever wants an end
before that (a stop string, a cancel, a deadline) calls `end`, which sets the reason, and cancels in the engine: the
update that confirms it comes within one step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from opentelemetry.context import Context

from services.inference.engine.request import SequenceUpdate
from services.inference.replica.generate.logprobs import with_texts
from services.inference.text.answer import Answer
from services.inference.text.token_text import ShownTokens
from services.inference.text.tools.parser import Parsed, ToolCallParser
from shared.contracts.gateway import FinishReason, Frame, FrameBatch, Timings, TokenLogprob, ToolCallDelta, Usage
from shared.errors import Conflict, LlmosError


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ends."""

    reason: FinishReason
    error: LlmosError | None = None


@dataclass(slots=True)
class Stream:
    """One request as the replica sees it."""

    request_id: str
    gateway_id: str
    answer: Answer
    prompt_tokens: int
    resumed_tokens: int = 0
    """Tokens that were generated elsewhere before."""
    max_tokens: int = 0
    deadline_ms: int | None = None
    """Unix time in milliseconds."""
    accepted_ns: int = 0
    """Unix time in nanoseconds."""
    context: Context = field(default_factory=Context)
    """The trace that the request belongs to."""
    cached_tokens: int = 0
    """Prompt tokens that came from the prefix cache."""
    shown: ShownTokens | None = None
    """Given if the request wants log probabilities."""
    calls: ToolCallParser | None = None
    """Given if the answer may call tools."""
    seq: int = 0
    """Of the next frame."""
    steps: int = 0
    """Steps that gave it tokens."""
    batch_max: int = 0
    """Most sequences that got a token in the same step as this one."""
    batch_sum: int = 0
    ending: Ending | None = None

    @property
    def usage(self) -> Usage:
        """Tokens so far; those of a resumed answer included."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.answer.tokens,
            cached_tokens=self.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream that got its terminal frame."""

    stream: Stream
    ending: Ending
    timings: Timings


@dataclass(slots=True)
class Delta:
    """What one step added to one answer."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()

    def take(self, parsed: Parsed) -> None:
        """Add what an answer's text was taken apart into."""
        self.text += parsed.text
        self.tool_calls += tuple(parsed.calls)

    def __bool__(self) -> bool:
        return bool(self.token_ids or self.prompt_logprobs)

    def frame(self, request_id: str, seq: int) -> Frame:
        """The frame that tells it."""
        return Frame(
            request_id=request_id,
            seq=seq,
            text=self.text,
            token_ids=self.token_ids,
            logprobs=self.logprobs,
            prompt_logprobs=self.prompt_logprobs,
            tool_calls=self.tool_calls,
        )


@dataclass(slots=True)
class Step:
    """What a step of the engine means outside of it."""

    batches: dict[str, FrameBatch] = field(default_factory=dict)
    """By gateway id."""
    cancel: list[str] = field(default_factory=list)
    """Requests whose answer is complete although the engine would go on."""
    ended: list[Ended] = field(default_factory=list)


class Streams:
    """All open streams of a replica. Called from one thread."""

    def __init__(self, replica_id: str) -> None:
        self._replica_id = replica_id
        self._streams: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._streams

    def open(self, stream: Stream) -> None:
        """Expect updates for a request; raises `Conflict` if its id is in use."""
        if stream.request_id in self._streams:
            raise Conflict(f"request {stream.request_id} is running already", param="request_id")
        self._streams[stream.request_id] = stream

    def forget(self, request_id: str) -> None:
        """The engine refused the request: there will be no frames."""
        del self._streams[request_id]

    def end(self, request_id: str, ending: Ending) -> bool:
        """Say why a stream ends; False if it is not open or ends already, for the first reason stands."""
        stream = self._streams.get(request_id)
        if stream is None or stream.ending is not None:
            return False
        stream.ending = ending
        return True

    def open_ids(self) -> list[str]:
        """All open requests that do not end yet."""
        return [stream.request_id for stream in self._streams.values() if stream.ending is None]

    def overdue(self, now_ms: int) -> list[str]:
        """Open requests whose deadline passed."""
        return [
            stream.request_id
            for stream in self._streams.values()
            if stream.ending is None and stream.deadline_ms is not None and stream.deadline_ms <= now_ms
        ]

    def of_gateways(self, gateways: Iterable[str]) -> list[str]:
        """Open requests that these gateways wait for."""
        wanted = set(gateways)
        return [s.request_id for s in self._streams.values() if s.ending is None and s.gateway_id in wanted]

    def apply(self, updates: Sequence[SequenceUpdate]) -> Step:
        """The frames of one step, one message per gateway. Updates of unknown sequences are nobody's."""
        step = Step()
        frames: dict[str, list[Frame]] = {}
        batch = sum(bool(update.token_ids) for update in updates)
        for update in updates:
            stream = self._streams.get(update.request_id)
            if stream is None:
                continue
            if update.token_ids:
                stream.steps += 1
                stream.batch_sum += batch
                stream.batch_max = max(stream.batch_max, batch)
            frame = self._frame(stream, update, step)
            if frame is not None:
                frames.setdefault(stream.gateway_id, []).append(frame)
        step.batches = {
            gateway: FrameBatch(replica_id=self._replica_id, frames=tuple(each)) for gateway, each in frames.items()
        }
        return step

    def check_integrity(self) -> None:
        """Raise AssertionError unless every stream is open under its own id."""
        for request_id, stream in self._streams.items():
            assert stream.request_id == request_id, "a stream is kept under another id"
            assert stream.answer.tokens >= stream.resumed_tokens or stream.answer.stopped, "resumed tokens are lost"
            assert not stream.answer.stopped or stream.ending is not None, "an answer that ended is still open"

    def _frame(self, stream: Stream, update: SequenceUpdate, step: Step) -> Frame | None:
        stream.cached_tokens = update.cached_tokens
        delta = Delta() if stream.ending is not None else self._delta(stream, update, step)
        if update.finish is None:
            if not delta:
                return None
            stream.seq += 1
            return delta.frame(stream.request_id, stream.seq - 1)
        ending = stream.ending or Ending(update.finish, update.error)
        timings = update.timings or Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)
        step.ended.append(Ended(stream, ending, timings))
        del self._streams[stream.request_id]
        return terminal_frame(stream, ending, timings, delta)

    def _delta(self, stream: Stream, update: SequenceUpdate, step: Step) -> Delta:
        text, taken = stream.answer.push(update.token_ids)
        delta = Delta(token_ids=update.token_ids[:taken])
        delta.take(Parsed(text) if stream.calls is None else stream.calls.push(text))
        if stream.shown is not None:
            delta.logprobs = with_texts(update.scores[:taken], stream.shown, bare=stream.answer.bare) or None
            delta.prompt_logprobs = with_texts(update.prompt_scores, stream.shown) or None
        if stream.answer.stopped:
            stream.ending = Ending(FinishReason.STOP)
            if update.finish is None:
                step.cancel.append(stream.request_id)
        return delta


def terminal_frame(stream: Stream, ending: Ending, timings: Timings, delta: Delta | None = None) -> Frame:
    """The last frame of a request, with what its last step added.

    Text that was held back goes out only when the answer is complete: one that goes on elsewhere releases it there.
    """
    delta = delta or Delta()
    reason = ending.reason
    if reason in {FinishReason.STOP, FinishReason.LENGTH}:
        text = stream.answer.finish()
        delta.take(Parsed(text) if stream.calls is None else stream.calls.push(text))
        if stream.calls is not None:
            delta.take(stream.calls.finish())
            if reason is FinishReason.STOP and stream.calls.calls:
                reason = FinishReason.TOOL_CALLS
    return delta.frame(stream.request_id, stream.seq).model_copy(
        update={
            "finish_reason": reason,
            "usage": stream.usage,
            "timings": timings,
            "error": None if ending.error is None else ending.error.payload(),
        }
    )
