"""Decode and prefill speed of the engine beside a bare ONNX Runtime loop, in one run, alternating.

    python -m benchmarks.engine [--model-dir DIR] [--quick]

Prints one JSON line per point. `ratio` is engine / bound, the median over rounds; in a round both ran one after the
other, so that what else happens on the machine meets both. The bound runs the same graph with the same batch. A lone
sequence may cost the engine two rows (see `OnnxDecoder`): `ratio_same_rows` compares with a bound that does the same.
"""

import argparse
import json
import os
import queue
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.bare_loop import BareLoop
from benchmarks.processor import processor_name
from devtools.convert import convert_gguf
from llmos.cli.demo import demo_gguf
from services.inference.engine.engine import Engine
from services.inference.engine.limits import EngineLimits
from services.inference.engine.request import SequenceRequest, SequenceUpdate
from services.inference.engine.sampling.params import SamplingParams
from services.inference.runtime.onnx_decoder import GRAPH_FILE, OnnxDecoder
from shared.contracts.manifest import DecoderSpec, Manifest

BATCHES = (1, 4, 16)
MAX_LEN = 1024
PROMPT = 64
"""Tokens before the decode that is measured."""


class Bench:
    """An engine and its bound on the same graph."""

    def __init__(self, model_dir: Path, spec: DecoderSpec, threads: int) -> None:
        self._model_dir, self._spec, self._threads = model_dir, spec, threads
        self._decoder = OnnxDecoder(model_dir, spec, slots=max(BATCHES), max_len=MAX_LEN, threads=threads)
        self._steps: queue.SimpleQueue[tuple[float, list[SequenceUpdate]]] = queue.SimpleQueue()
        self._engine = Engine(
            self._decoder,
            EngineLimits(max_queued_tokens=1 << 20, draft_tokens=0),  # as the bound: token by token
            lambda updates: self._steps.put((time.perf_counter(), updates)),
        )
        self._engine.start()
        self._bare: dict[int, BareLoop] = {}
        self._random = np.random.default_rng(0)
        self._requests = 0

    @property
    def rows_alone(self) -> int:
        """Rows that the engine computes for a lone sequence."""
        return self._decoder.rows_alone

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()

    def engine_decode(self, batch: int, steps: int) -> float:
        """Median seconds per step while all of `batch` sequences decode."""
        self._submit(batch, PROMPT, max_tokens=steps + batch)
        return statistics.median(self._full_steps(batch))

    def bare_decode(self, rows: int, steps: int) -> float:
        """Median seconds per step."""
        bare = self._bound(rows)
        times = []
        for position in range(PROMPT, PROMPT + steps):
            start = time.perf_counter()
            bare.decode(position)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def engine_prefill(self, batch: int, length: int) -> float:
        """Seconds from handing in `batch` prompts to the last one's first token."""
        start = time.perf_counter()
        self._submit(batch, length, max_tokens=1)
        self._full_steps(batch)
        return time.perf_counter() - start

    def bare_prefill(self, batch: int, length: int) -> float:
        """Seconds to compute `batch` prompts one after the other, each in one run."""
        bare = self._bound(1)
        start = time.perf_counter()
        for _ in range(batch):
            bare.prefill(self._prompt(length))
        return time.perf_counter() - start

    def _bound(self, batch: int) -> BareLoop:
        if batch not in self._bare:
            model = self._model_dir / GRAPH_FILE
            bare = BareLoop(model, self._spec, batch=batch, max_len=MAX_LEN, threads=self._threads)
            bare.decode(PROMPT)
            self._bare[batch] = bare
        return self._bare[batch]

    def _prompt(self, length: int) -> np.ndarray:
        return self._random.integers(100, self._spec.vocab_size, length)

    def _submit(self, batch: int, length: int, *, max_tokens: int) -> None:
        sampling = SamplingParams(max_tokens, temperature=0.0, ignore_eos=True)
        for _ in range(batch):
            self._requests += 1
            prompt = self._prompt(length).tolist()
            self._engine.submit(SequenceRequest(f"bench-{self._requests}", prompt, sampling=sampling))

    def _full_steps(self, batch: int) -> list[float]:
        """Wait for the end of all; the durations of the steps that gave every sequence a token and started none."""
        finished, before, times = 0, None, []
        while finished < batch:
            at, updates = self._steps.get(timeout=600)
            full = len(updates) == batch and all(update.completion_tokens > 1 for update in updates)
            if full and before is not None:
                times.append(at - before)
            before = at if full else None
            finished += sum(update.finish is not None for update in updates)
        return times


def main() -> None:
    """Measure all points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", type=Path, help="holds model.onnx and manifest.json; default: the demo model")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and shorter prompts")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        model_dir = arguments.model_dir or Path(folder)
        if arguments.model_dir:
            manifest = Manifest.decode((model_dir / "manifest.json").read_bytes())
        else:
            manifest = convert_gguf(demo_gguf(), model_dir)
        if manifest.decoder is None:
            raise SystemExit(f"{model_dir} is not a model that generates")
        bench = Bench(model_dir, manifest.decoder, arguments.threads)
        try:
            measure(bench, form=manifest.lineage.quantization, quick=arguments.quick, threads=arguments.threads)
        finally:
            bench.close()


def measure(bench: Bench, *, form: str, quick: bool, threads: int) -> None:
    """Print one line per point."""
    machine = {"form": form, "cpu": processor_name(), "threads": threads, "onnxruntime": ort.__version__}
    rounds, steps, length = (3, 16, 128) if quick else (5, 32, 256)
    for batch in BATCHES:
        rows = bench.rows_alone if batch == 1 else batch
        sides: dict[str, Callable[[], float]] = {
            "engine": lambda: bench.engine_decode(batch, steps),  # noqa: B023  # called before the next turn
            "bound": lambda: bench.bare_decode(batch, steps),  # noqa: B023  # as above
        }
        if rows != batch:
            sides["bound_same_rows"] = lambda: bench.bare_decode(rows, steps)  # noqa: B023  # as above
        _report("decode", batch, batch, alternate(sides, rounds), machine | {"rows": rows})
    for batch in BATCHES:
        sides = {
            "engine": lambda: bench.engine_prefill(batch, length),  # noqa: B023  # as above
            "bound": lambda: bench.bare_prefill(batch, length),  # noqa: B023  # as above
        }
        turns = max(3, rounds // batch) if batch < max(BATCHES) else 2
        _report("prefill", batch, batch * length, alternate(sides, turns), machine | {"prompt_tokens": length})


def alternate(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each side in each round; a first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            seconds = side()
            if turn:
                times[name].append(seconds)
    return times


def _report(phase: str, batch: int, tokens: int, times: dict[str, list[float]], facts: dict[str, object]) -> None:
    line: dict[str, object] = {"benchmark": "engine", "phase": phase, "batch": batch}
    for name, seconds in times.items():
        line[f"{name}_tokens_per_s"] = round(tokens / statistics.median(seconds), 1)
    for name in times.keys() - {"engine"}:
        ratios = [bound / engine for bound, engine in zip(times[name], times["engine"], strict=True)]
        line[name.replace("bound", "ratio")] = round(statistics.median(ratios), 3)
    print(json.dumps(line | facts), flush=True)


if __name__ == "__main__":
    main()
