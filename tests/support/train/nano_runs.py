"""Training runs of a tiny Llama on made-up rows, in this process and in others."""

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from devtools.data.rows import Pair, Row, Text, Turn, write_rows
from devtools.train.distributed import World
from devtools.train.inputs import read_inputs
from devtools.train.options import CheckpointInterval, RunOptions
from devtools.train.progress import Event, Finished, Stepped
from devtools.train.recipe import parse_recipe
from devtools.train.run import _Run, train
from shared.contracts.replica import ChatMessage
from shared.service.python import python_module
from tests.support.models.small_model import write_small_gguf

WORDS = ["the", "red", "fox", "saw", "a", "small", "dog", "near", "an", "old", "house", "and", "ran", "home"]
SMALL: dict[str, Any] = {
    "steps": 4,
    "batch": 8,
    "max_len": 128,
    "optimizer": {"learning_rate": 1e-3},
    "compute": {"precision": "float32"},
}
"""A recipe that takes a fraction of a second."""


def base(folder: Path) -> Path:
    """A Llama whose activations keep their size, so that rounding is not amplified from layer to layer."""
    return write_small_gguf(folder / "base.gguf", scale=0.125)


def said(role: str, text: str) -> ChatMessage:
    return ChatMessage.model_validate({"role": role, "content": text})


def phrase(draw: random.Random, longest: int = 12) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, longest)))


def turns(count: int = 24, seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    return [
        Turn(messages=(said("user", phrase(draw)),), answer=said("assistant", phrase(draw))) for _ in range(count)
    ]


def texts(count: int = 24, seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    return [Text(text=phrase(draw, 30)) for _ in range(count)]


def pairs(count: int = 24, seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    return [
        Pair(
            messages=(said("user", phrase(draw)),),
            chosen=said("assistant", phrase(draw)),
            rejected=said("assistant", phrase(draw) + " no"),
        )
        for _ in range(count)
    ]


ROWS = {"sft": turns, "pretrain": texts, "dpo": pairs, "distil": turns}


def merged(*recipes: Mapping[str, Any]) -> dict[str, Any]:
    """Recipes laid over one another, table by table."""
    result: dict[str, Any] = {}
    for recipe in recipes:
        for key, value in recipe.items():
            result[key] = merged(result.get(key, {}), value) if isinstance(value, dict) else value
    return result


@dataclass
class Run:
    """A run in a folder of its own."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    finished: Finished | None = None

    @property
    def steps(self) -> list[Stepped]:
        return [event for event in self.events if isinstance(event, Stepped)]

    @property
    def losses(self) -> list[float]:
        return [step.loss for step in self.steps]

    def weights(self) -> dict[str, Any]:
        """The result's tensors."""
        (path,) = (self.folder / "result").glob("*.safetensors")
        return load_file(path)


def files(folder: Path, rows: Iterable[Row] | None = None, method: str = "sft") -> RunOptions:
    """A base and rows in `folder`, as options of a run there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", ROWS[method]() if rows is None else rows)
    return RunOptions(data=(folder / "rows.jsonl",), output=folder / "out", base=base(folder), threads=1)


def nano_run(
    folder: Path,
    recipe: Mapping[str, Any] = {},
    *,
    rows: Sequence[Row] | None = None,
    stop_at: int | None = None,
    ask: Callable[[], bool] | None = None,
    **options: Any,
) -> Run:
    """Train in `folder`; `stop_at` asks the run to stop at that step, `ask` whenever it returns true."""
    values = merged(SMALL, recipe)
    made = files(folder, rows, values.get("method", "sft"))
    changes = {name: getattr(made, name) for name in RunOptions.__dataclass_fields__} | options
    run = Run(folder / "out")
    run.finished = train(
        parse_recipe(values),
        RunOptions(**changes),
        on_event=run.events.append,
        asked_to_stop=ask or (lambda: stop_at is not None and bool(run.steps) and run.steps[-1].step >= stop_at),
    )
    return run


def connected(folder: Path, recipe: Mapping[str, Any], *, rows: Sequence[Row] | None = None) -> Any:
    """The connected parts of a run in `folder`, before its first step."""
    values = merged(SMALL, recipe)
    options, parsed = files(folder, rows, values.get("method", "sft")), parse_recipe(values)
    inputs = read_inputs(
        parsed, base=options.base, data=options.data, validation=None, teacher=None, scratch=folder / "scratch"
    )
    return _Run(parsed, options, inputs, world=World(), precision="float32", emit=lambda _event: None)


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    """The recipe as TOML."""
    path.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in merged(SMALL, recipe).items()) + "\n")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def command(options: RunOptions, recipe: Path, *more: str) -> list[str]:
    """The command line of a run."""
    arguments = [str(recipe), "--data", str(options.data[0]), "--output", str(options.output), "--threads", "1"]
    arguments += [] if options.base is None else ["--base", str(options.base)]
    return [*python_module("devtools.train"), *arguments, *more]


def start(arguments: Sequence[str], **more: Any) -> subprocess.Popen[str]:
    """The command as a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **more
    )


EVERY_STEP = CheckpointInterval(steps=1)
