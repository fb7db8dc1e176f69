"""The command line of one training run.

Events go to standard output, a JSON object on each line (`progress`); nothing else does. SIGTERM and SIGINT write a
checkpoint and end the process with `PAUSED`: the same command continues there. Exit codes:

| code | meaning |
|---|---|
| 0 | finished: the result is in OUTPUT/result |
| 1 | a fault of LLMOS, or of another process of the run; the traceback is on standard error |
| 2 | the input was refused; the same command would be refused again |
| 3 | the loss was not a number |
| 4 | no room on the disk; the checkpoints before stay |
| 75 | paused (`EX_TEMPFAIL`) |
"""

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from devtools.train.options import CheckpointInterval, RunOptions
from devtools.train.progress import Event, Failed, Stepped, as_line
from devtools.train.recipe import read_recipe
from devtools.train.run import train
from shared.errors import InvalidInput, LlmosError, StorageFull, TrainingDiverged, Unavailable
from shared.panics import STOPS

DONE, FAULT, REFUSED, DIVERGED, STORAGE_FULL, PAUSED = 0, 1, 2, 3, 4, os.EX_TEMPFAIL
_STEPS_EVERY_S = 0.5
"""Seconds between two reported steps; the first and the last are reported in any case."""


class StopSignals:
    """Remembers that the process was asked to stop; a second signal ends it at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.asked = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser_of().parse_args(arguments)
    stop = StopSignals()
    emit = printer()
    try:
        recipe = read_recipe(given.recipe, given.set)
        done = train(recipe, options_of(given), on_event=emit, asked_to_stop=lambda: stop.asked)
    except LlmosError as error:
        emit(Failed(error.code, error.message, error.param))
        return exit_code(error)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001  # the boundary of the process: who reads the events has to know
        traceback.print_exc()
        emit(Failed("internal", "a fault of LLMOS; its traceback is on standard error. Please report it"))
        return FAULT
    return PAUSED if done is None else DONE


def exit_code(error: LlmosError) -> int:
    """Of a run that ends with `error`."""
    match error:
        case TrainingDiverged():
            return DIVERGED
        case StorageFull():
            return STORAGE_FULL
        case Unavailable():
            return FAULT
        case _ if error.code == "internal":
            return FAULT
    return REFUSED


def printer() -> Callable[[Event], None]:
    """Writes events as lines; steps at most every half second."""
    last = float("-inf")

    def emit(event: Event) -> None:
        nonlocal last
        if isinstance(event, Stepped):
            now = time.monotonic()
            if now - last < _STEPS_EVERY_S and event.step != event.steps:
                return
            last = now
        sys.stdout.write(as_line(event) + "\n")
        sys.stdout.flush()

    return emit


def options_of(given: argparse.Namespace) -> RunOptions:
    """The options that were given; raises InvalidInput."""
    if given.threads is not None and given.threads < 1:
        raise InvalidInput(f"--threads is {given.threads}, expected 1 or more", param="threads")
    if given.checkpoint_steps is not None and given.checkpoint_steps < 1:
        raise InvalidInput(f"--checkpoint-steps is {given.checkpoint_steps}, expected 1 or more",
                           param="checkpoint_steps")  # fmt: skip
    return RunOptions(
        data=tuple(given.data),
        output=given.output,
        base=given.base,
        adapter=given.adapter,
        teacher=given.teacher,
        validation=given.validation,
        result=given.result,
        threads=given.threads,
        keep_codes={"auto": None, "yes": True, "no": False}[given.keep_codes],
        recompute=given.recompute,
        interval=CheckpointInterval(given.checkpoint_steps, given.checkpoint_seconds),
    )


def parser_of() -> argparse.ArgumentParser:
    """All arguments of a training."""
    parser = argparse.ArgumentParser(
        prog="python -m devtools.train", description="Train a model, or continue: the same command resumes."
    )
    add = parser.add_argument
    add("recipe", type=Path, metavar="RECIPE.toml", help="what the run does")
    add(
        "--set", action="append", metavar="KEY=VALUE", help="change a key of the recipe: optimizer.learning_rate=1e-3"
    )
    add("--base", type=Path, metavar="MODEL", help="a GGUF or a Hugging Face directory")
    add("--adapter", type=Path, metavar="FOLDER", help="an adapter of the base (PEFT's files) to train on")
    add("--teacher", type=Path, metavar="MODEL", help="with method = 'distil'")
    add("--data", type=Path, action="append", required=True, metavar="ROWS.jsonl", help="rows; may be repeated")
    add("--validation", type=Path, metavar="ROWS.jsonl", help="held-out rows")
    add("--output", type=Path, required=True, metavar="FOLDER", help="for checkpoints and the result")
    add("--result", choices=["adapter", "model"], help="what is left; by default an adapter where one is trained")
    add("--threads", type=int, metavar="N", help="of PyTorch")
    add("--keep-codes", choices=["auto", "yes", "no"], default="auto",
        help="keep frozen matrices quantised, which saves memory and takes time")  # fmt: skip
    add("--recompute", action="store_true", help="compute layers again on the way back, which saves memory")
    add("--checkpoint-steps", type=int, metavar="N", help="write a checkpoint every N steps")
    add("--checkpoint-seconds", type=float, default=60.0, metavar="S", help="without it, every S seconds (60)")
    return parser
