"""Updates of an engine step to frames: pure, no clock, no I/O.

Each request has one `Stream` from `open` to its terminal frame. The terminal frame is made from the engine's last
update of the sequence, of which there is exactly one, so there is exactly one terminal frame. To end a request before
that (a stop string, a cancellation, a deadline), `abort` sets the reason and the caller cancels the sequence in the
engine: the update that confirms the cancellation comes within one step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.inference.engine.request import SequenceUpdate
from services.inference.replica.generate.logprobs import token_logprobs
from services.inference.replica.generate.stream import Finish, FinishedRequest, Stream
from shared.contracts.gateway import FinishReason, Frame, FrameBatch, GeneratedToolCall, Timings, TokenLogprob
from shared.errors import Conflict


@dataclass(slots=True)
class Delta:
    """What one step added to one answer."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    tool_calls: tuple[GeneratedToolCall, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.token_ids or self.prompt_logprobs)

    def frame(self, request_id: str, seq: int) -> Frame:
        """The frame that carries it."""
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
    """The effects of an engine step."""

    batches: dict[str, FrameBatch] = field(default_factory=dict)
    """By gateway id."""
    cancel: list[str] = field(default_factory=list)
    """Requests whose answer is complete, while the engine still runs their sequence."""
    finished: list[FinishedRequest] = field(default_factory=list)


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
        """Remove a request that the engine rejected: there will be no frames."""
        del self._streams[request_id]

    def abort(self, request_id: str, finish: Finish) -> bool:
        """Set why a stream ends; False if it is not open, or has a reason already: the first reason stands."""
        stream = self._streams.get(request_id)
        if stream is None or stream.finish is not None:
            return False
        stream.finish = finish
        return True

    def open_ids(self) -> list[str]:
        """Open requests without a reason to end."""
        return [stream.request_id for stream in self._streams.values() if stream.finish is None]

    def overdue(self, now: float) -> list[str]:
        """Open requests whose deadline passed; `now` is on the clock of the deadlines."""
        return [
            stream.request_id
            for stream in self._streams.values()
            if stream.finish is None and stream.deadline is not None and stream.deadline <= now
        ]

    def of_gateways(self, gateways: Iterable[str]) -> list[str]:
        """Open requests of these gateways."""
        names = set(gateways)
        return [s.request_id for s in self._streams.values() if s.finish is None and s.gateway_id in names]

    def apply(self, updates: Sequence[SequenceUpdate]) -> Step:
        """The frames of one step, one message per gateway. Updates of unknown sequences are ignored."""
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
            assert not stream.answer.stopped or stream.finish is not None, "an answer that ended is still open"

    def _frame(self, stream: Stream, update: SequenceUpdate, step: Step) -> Frame | None:
        stream.cached_tokens = update.cached_tokens
        delta = Delta() if stream.finish is not None else self._delta(stream, update, step)
        if update.finish is None:
            if not delta:
                return None
            stream.seq += 1
            return delta.frame(stream.request_id, stream.seq - 1)
        finish = stream.finish or Finish(update.finish, update.error)
        timings = update.timings or Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)
        step.finished.append(FinishedRequest(stream, finish, timings))
        del self._streams[stream.request_id]
        return terminal_frame(stream, finish, timings, delta)

    def _delta(self, stream: Stream, update: SequenceUpdate, step: Step) -> Delta:
        text, taken = stream.answer.push(update.token_ids)
        delta = Delta(text, update.token_ids[:taken], tool_calls=stream.answer.take_calls())
        if stream.token_texts is not None:
            delta.logprobs = (
                token_logprobs(update.scores[:taken], stream.token_texts, stripped_index=stream.answer.stripped_index)
                or None
            )
            delta.prompt_logprobs = token_logprobs(update.prompt_scores, stream.token_texts) or None
        if stream.answer.stopped:
            stream.finish = Finish(FinishReason.STOP)
            if update.finish is None:
                step.cancel.append(stream.request_id)
        return delta


def terminal_frame(stream: Stream, finish: Finish, timings: Timings, delta: Delta | None = None) -> Frame:
    """The last frame of a request, with what its last step added.

    Text that was held back is sent only when the answer is complete: an answer that continues on another replica
    sends it there. A call that `max_tokens` cut is not sent, and the reason remains `length`.
    """
    delta = delta or Delta()
    reason = finish.reason
    if reason in {FinishReason.STOP, FinishReason.LENGTH}:
        delta.text += stream.answer.finish(cut=reason is FinishReason.LENGTH)
        if reason is FinishReason.STOP and stream.answer.has_calls:
            reason = FinishReason.TOOL_CALLS
    return delta.frame(stream.request_id, stream.seq).model_copy(
        update={
            "finish_reason": reason,
            "stop_string": stream.answer.stop_string if reason is FinishReason.STOP else None,
            "usage": stream.usage,
            "timings": timings,
            "error": None if finish.error is None else finish.error.payload(),
        }
    )
