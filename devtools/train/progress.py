"""What a run reports: events, each a JSON object on a line of its own."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Started:
    """Training begins.

    step: where from; above 0 when a run is resumed
    steps: of the whole run
    items: rows, or windows of texts, that are trained on; pairs count once
    validation_items: that are held out
    skipped: rows that are longer than max_len
    answer_tokens: that an epoch learns
    parameters: that are trained
    check: the largest difference of a logit to the reference, as a share of the largest logit
    precision: of products: float32 or bfloat16
    digests: recipe, data and base
    """

    step: int
    steps: int
    items: int
    validation_items: int
    skipped: int
    answer_tokens: int
    parameters: int
    check: float
    precision: str
    digests: dict[str, str]
    event: str = field(default="started", init=False)


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step is done.

    step: how many are done
    loss: per learnt token, on the rows of this step
    val_loss: of the last validation
    learning_rate: of this step
    gradient_norm: before clipping
    epoch: how often every row was seen
    micro_batches: that the step was computed in
    shape: rows and tokens of its largest micro-batch
    tokens_per_second: of this process since its start, padding not counted
    eta_s: seconds until the last step at this speed
    memory: bytes that the process holds
    """

    step: int
    steps: int
    loss: float
    val_loss: float | None
    learning_rate: float
    gradient_norm: float
    epoch: float
    micro_batches: int
    shape: tuple[int, int]
    tokens_per_second: float
    eta_s: float
    memory: int
    event: str = field(default="step", init=False)


@dataclass(frozen=True, slots=True)
class Validated:
    """The loss on the held-out rows, without dropout, noise or any means of [robust]."""

    step: int
    val_loss: float
    best: bool
    event: str = field(default="validation", init=False)


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A checkpoint is whole on the disk."""

    step: int
    path: str
    event: str = field(default="checkpoint", init=False)


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that a person should know and that stops nothing."""

    message: str
    event: str = field(default="warning", init=False)


@dataclass(frozen=True, slots=True)
class Paused:
    """The run was asked to stop and has written a checkpoint; the same command continues."""

    step: int
    event: str = field(default="paused", init=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """The result is whole on the disk.

    step: whose weights it has: the best validated ones, or the last
    digest: SHA-256 of the list of the result's files with their SHA-256s
    """

    step: int
    val_loss: float | None
    kind: str
    path: str
    digest: str
    event: str = field(default="finished", init=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The run ends with an error: its code in the error tree, the message, and the field that is wrong."""

    code: str
    message: str
    param: str | None = None
    event: str = field(default="failed", init=False)


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial of a search begins, or goes on.

    values: of the keys that are searched
    """

    trial: int
    trials: int
    values: dict[str, Any]
    event: str = field(default="trial_started", init=False)


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial of a search has ended.

    state: complete; stopped: others were better; diverged
    val_loss: its lowest
    step: of its last validation
    steps: of the longest trial so far
    """

    trial: int
    state: str
    val_loss: float | None
    step: int
    steps: int
    event: str = field(default="trial_ended", init=False)


@dataclass(frozen=True, slots=True)
class Searched:
    """A search has ended; the best trial's result is in `path`.

    trial: the best
    table: all trials, for people
    digest: as of `Finished`
    """

    trial: int
    val_loss: float
    values: dict[str, Any]
    table: str
    path: str
    digest: str
    event: str = field(default="searched", init=False)


Event = (
    Started
    | Stepped
    | Validated
    | Checkpointed
    | Warned
    | Paused
    | Finished
    | Failed
    | TrialStarted
    | TrialEnded
    | Searched
)
OnEvent = Callable[[Event], None]


def as_line(event: Event) -> str:
    """The event as one line of JSON, its name first."""
    fields = asdict(event)
    return json.dumps({"event": fields.pop("event"), **fields})
