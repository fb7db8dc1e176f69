"""Frames that say a text, for scripted replicas."""

from shared.contracts.gateway import FinishReason, Frame, GeneratedToolCall, Timings, Usage

CALL = GeneratedToolCall(index=0, id="call_1f", name="weather", arguments='{"city": "Paris", "days": 1e999}')
"""Its arguments have a number that no double holds: they are passed on as they are."""
USAGE = Usage(prompt_tokens=30, completion_tokens=9, cached_tokens=10)
TIMINGS = Timings(queue_s=0.1, prefill_s=0.25, decode_s=0.5)


def spoken(
    *texts: str,
    calls: tuple[GeneratedToolCall, ...] = (),
    reason: FinishReason = FinishReason.STOP,
    stop_string: str | None = None,
) -> tuple[Frame, ...]:
    """A frame for each text, and the last with calls and the end."""
    frames = [Frame(request_id="", seq=0, text=text, token_ids=(5,)) for text in texts]
    end = Frame(request_id="", seq=0, tool_calls=calls, finish_reason=reason, stop_string=stop_string, usage=USAGE)
    return (*frames, end.model_copy(update={"timings": TIMINGS}))
