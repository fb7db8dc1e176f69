"""Tokens per second of LoRA on SmolLM2, beside peft and transformers on the same batches, in one run.

    python -m benchmarks.training [--peft-python PYTHON] [--threads N] [--rounds N]

The peer runs in a Python of its own that has torch, transformers and peft (`PEFT_PYTHON`); without one, LLMOS's
figures stand alone. Both sides train the same weights on the same token ids with the same learnt tokens, a round of
one side after a round of the other. Tokens are those of the rows, without padding. `processor` figures are per second
of processor time, which other load on the machine disturbs least.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.training_base import base_path, ticket_items
from devtools.convert.decoder_version import DecoderModel
from devtools.train.assemble import assemble
from devtools.train.base import open_base
from devtools.train.batches import make_batch
from devtools.train.examples import Example, Item
from devtools.train.lines import lay_out
from devtools.train.model.decoder import Decoder
from devtools.train.model.lora import merged_weights
from devtools.train.objective.objective import Objective
from devtools.train.recipe import parse_recipe
from devtools.train.result.hf_config import hf_config
from devtools.train.result.hf_directory import write_hf_directory
from devtools.train.stepper import make_optimizer, products
from shared.text.tokenizer import Tokenizer

RECIPE = {"steps": 1, "batch": 8, "optimizer": {"learning_rate": 1e-4}}
"""LoRA of rank 8 on all seven matrices of each layer, AdamW."""


@dataclass(frozen=True, slots=True)
class Point:
    """A batch to train on."""

    name: str
    items: Sequence[Item]
    bfloat16: bool


class Ours:
    """Steps of LLMOS."""

    def __init__(self, model: DecoderModel) -> None:
        recipe = parse_recipe(RECIPE)
        self._decoder, _, _ = assemble(model, recipe, adapter=None, keep_codes=False, recompute=False)
        self._objective = Objective(recipe, self._decoder, Tokenizer(model.text.tokenizer.to_str()))
        self._optimizer = make_optimizer(self._decoder, self._objective, recipe)

    def step(self, point: Point) -> dict[str, float]:
        """Seconds, processor seconds and loss of one step."""
        wall, processor = time.perf_counter(), time.process_time()
        counts, loss = self._objective.count(point.items), 0.0
        for lines in lay_out(point.items, tokens=4096, packing="auto", length=512):
            with products(bfloat16=point.bfloat16):
                part = self._objective(make_batch(lines), counts)
            part.backward()
            loss += part.item()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return {
            "wall": time.perf_counter() - wall, "processor": time.process_time() - processor, "loss": loss,
        }  # fmt: skip


class Peer:
    """Steps of peft and transformers, in another process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.versions = self._read()

    def step(self, point: Point) -> dict[str, float]:
        """Seconds, processor seconds and loss of one step."""
        rows = [[example.ids.tolist(), example.start] for item in point.items for example in item]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"rows": rows, "bfloat16": point.bfloat16}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the peer ended; its messages are above")
        return dict(json.loads(line))


@contextmanager
def peer(python: str | None, folder: Path, threads: int) -> Iterator[Peer | None]:
    """The peer with the model in `folder`, if there is a Python for it."""
    if not python:
        yield None
        return
    script = Path(__file__).with_name("training_peer.py")  # -P: its folder is no place to import from
    with subprocess.Popen(
        [python, "-P", str(script), str(folder), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Peer(process)
        assert process.stdin is not None
        process.stdin.close()


def points(model: DecoderModel) -> Iterator[Point]:
    """Random rows of one length, half of each learnt, and the tickets of the lesson."""
    random = np.random.default_rng(0)
    for rows, length in ((4, 64), (8, 128)):
        items = [
            (
                Example(
                    str(row), random.integers(0, model.architecture.vocab_size, length, dtype=np.int32), length // 2
                ),
            )
            for row in range(rows)
        ]
        for bfloat16 in (False, True):
            yield Point(f"{rows} x {length}", items, bfloat16)
    tickets = ticket_items(model)[:16]
    for bfloat16 in (False, True):
        yield Point("16 tickets", tickets, bfloat16)


def measure(point: Point, ours: Ours, other: Peer | None, rounds: int) -> dict[str, Any]:
    """Medians of `rounds` steps of each side, one after the other, and one before to warm up."""
    sides: dict[str, Ours | Peer] = {"llmos": ours} | ({} if other is None else {"peft": other})
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            step = side.step(point)
            if number:
                seen[name].append(step)
    tokens = sum(len(example.ids) for item in point.items for example in item)
    line: dict[str, Any] = {
        "benchmark": "training", "batch": point.name, "precision": "bfloat16" if point.bfloat16 else "float32",
        "tokens": tokens,
    }  # fmt: skip
    for name, steps in seen.items():
        for kind in ("wall", "processor"):
            line[f"{name}_{kind}_tokens_per_s"] = round(tokens / statistics.median(step[kind] for step in steps), 1)
        line[f"{name}_loss"] = round(steps[0]["loss"], 4)
    if other is not None:
        for kind in ("wall", "processor"):
            mine, theirs = (line[f"{name}_{kind}_tokens_per_s"] for name in ("llmos", "peft"))
            line[f"ratio_{kind}"] = round(mine / theirs, 2)
    return line


def main() -> None:
    """Print a line of JSON per point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peft-python", default=os.environ.get("PEFT_PYTHON"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = open_base(base_path())
    ours = Ours(model)
    with tempfile.TemporaryDirectory() as folder:
        decoder = Decoder(model.architecture, model.weights, max_len=64)
        config = hf_config(model.architecture, model.weights)
        write_hf_directory(Path(folder), model, config, merged_weights(decoder))
        del decoder
        with peer(given.peft_python, Path(folder), given.threads) as other:
            print(json.dumps({"benchmark": "training", "peer": "missing" if other is None else other.versions}))
            for point in points(model):
                print(json.dumps(measure(point, ours, other, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
