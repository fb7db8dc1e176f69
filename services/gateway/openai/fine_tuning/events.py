"""What happened in a job, as OpenAI's events and checkpoints: the newest first, without the lines of its log."""

from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from shared.bus.port import EventStream
from shared.contracts.job import EventKind, Job, JobEvent, Progress, job_events_subject
from shared.errors import InvalidInput

_PAGE = 500
_PREFIXES = {"event": "ftevent-", "checkpoint": "ftckpt-"}
_LOSSES = {"loss": "train_loss", "val_loss": "valid_loss"}
_PHRASES = {
    **dict.fromkeys(("queued", "starting", "running", "stopping", "paused", "cancelled"), "The job is"),
    **dict.fromkeys(("succeeded", "failed"), "The job has"),
}
_WARNINGS = ("waits: ", "preempted", "not deployed", "was lost", "attempt ")

Found = tuple[int, JobEvent]
"""An event with its position in the stream."""


Page = tuple[list[dict[str, Any]], bool]
"""Objects, and whether there are more."""


async def events_of(stream: EventStream, job: Job, after: str | None, limit: int) -> Page:
    """A page of events; raises `InvalidInput` for an `after` that is no id of an event."""
    end = _position(after, "event")
    found, more = await _newest(stream, job, {"state", "progress", "checkpoint", "result"}, end=end, limit=limit)
    return [_event(place, event) for place, event in found], more


async def checkpoints_of(stream: EventStream, job: Job, after: str | None, limit: int) -> Page:
    """A page of checkpoints; raises `InvalidInput` for an `after` that is no id of a checkpoint."""
    end = _position(after, "checkpoint")
    found, more = await _newest(stream, job, {"checkpoint"}, end=end, limit=limit)
    return [_checkpoint(job, place, event) for place, event in found], more


async def _newest(
    stream: EventStream, job: Job, kinds: Collection[EventKind], *, end: int | None, limit: int
) -> tuple[list[Found], bool]:
    """The newest events before the position `end`; the whole story is read, as a stream is read forward only."""
    position = 0
    newest: deque[Found] = deque(maxlen=limit + 1)
    while True:
        found = await stream.after(position, job_events_subject(job.id), limit=_PAGE)
        for place, message in found:
            position = place
            if end is not None and place >= end:
                break
            event = JobEvent.decode(message.data)
            if event.kind in kinds:
                newest.append((place, event))
        if len(found) < _PAGE or (end is not None and position >= end):
            break
    return list(newest)[::-1][:limit], len(newest) > limit


def _position(after: str | None, what: str) -> int | None:
    if after is None:
        return None
    number = after.removeprefix(_PREFIXES[what])
    if number == after or not number.isdecimal() or len(number) > 18:
        raise InvalidInput(f"after must be the id of a {what} of this job, not {after[:40]!r}", param="after")
    return int(number)


def _event(place: int, event: JobEvent) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": f"{_PREFIXES['event']}{place}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.at.timestamp()),
        "level": "info",
        "message": _MESSAGES[event.kind](event),
        "type": "message",
        "data": None,
    }
    if event.kind == "progress" and event.progress is not None:
        made |= {"type": "metrics", "data": {"total_steps": event.progress.steps, **_metrics(event.progress)}}
    if event.kind == "state" and event.message.startswith("failed"):
        made["level"] = "error"
    elif event.kind == "state" and any(word in event.message for word in _WARNINGS):
        made["level"] = "warn"
    return made


def _checkpoint(job: Job, place: int, event: JobEvent) -> dict[str, Any]:
    # A tool saves between two reports of progress: the checkpoint's own step is in its message.
    digits = event.message.removeprefix("step ")
    step = int(digits) if digits.isdecimal() else 0
    metrics = {**_metrics(event.progress or Progress()), "step": step}
    if "valid_loss" in metrics:
        metrics["full_valid_loss"] = metrics["valid_loss"]
    return {
        "id": f"{_PREFIXES['checkpoint']}{place}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(event.at.timestamp()),
        "fine_tuning_job_id": job.id,
        "fine_tuned_model_checkpoint": f"{job.spec.deploy}:ckpt-step-{step}",
        "step_number": step,
        "metrics": metrics,
    }


def _metrics(progress: Progress) -> dict[str, float]:
    return {"step": progress.step, **{_LOSSES.get(name, name): value for name, value in progress.metrics.items()}}


def _progress_message(event: JobEvent) -> str:
    progress = event.progress
    if progress is None:
        return event.message.capitalize()
    of = f"/{progress.steps}" if progress.steps else ""
    names = {"loss": "training loss", "val_loss": "validation loss"}
    losses = [f"{names[name]}={progress.metrics[name]:.4g}" for name in names if name in progress.metrics]
    return f"Step {progress.step}{of}" + (f": {', '.join(losses)}" if losses else "")


def _state_message(event: JobEvent) -> str:
    word = event.message.split(" ", 1)[0].rstrip(":")
    return f"{_PHRASES.get(word, 'The job:')} {event.message}"


_MESSAGES: dict[EventKind, Callable[[JobEvent], str]] = {
    "state": _state_message,
    "progress": _progress_message,
    "checkpoint": lambda event: f"Saved a checkpoint at {event.message}",
    "result": lambda event: f"Made {event.message}",
}
