"""LLMOS's operators beside ONNX Runtime's own, in the same decoder: one bare loop each, in turn.

    python -m benchmarks.kernels [--gguf FILE] [--rounds N] [--threads N]

One graph has `MatMulBlocks`, `GatherBlocks` and `CachedAttention`; the other is the same graph spelt out in
`MatMulNBits`, `GatherBlockQuantized` and `GroupQueryAttention`. One JSON line per point, milliseconds of a step;
`ratio` is ONNX Runtime's operators / ours, the median over rounds (above 1: ours are faster). A lone sequence costs
the second graph two rows in service (docs/adr/0014): `ratio_two_rows` compares with that.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from benchmarks.bare_loop import BareLoop
from benchmarks.processor import processor_name
from devtools.convert import convert_gguf
from devtools.convert.cuda.runtime_attention import spell_out_attention
from devtools.convert.graph.runtime_form import spell_out_blocks
from devtools.convert.graph.weight_file import WeightFile
from llmos.cli.demo import demo_gguf
from shared.contracts.manifest import DecoderSpec

ROWS = (1, 2, 4, 8, 16, 32)
PROMPTS = (64, 256)
CONTEXT = 128
"""Tokens before the one that a decode step computes."""


def spell_out(folder: Path) -> Path:
    """Writes the graph in `folder` once more, in ONNX Runtime's operators; returns the file."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    spell_out_attention(model)
    with WeightFile(folder / "spelt_out.data") as weights:
        for matrix in spell_out_blocks(model):
            matrix.write(folder, weights)
    model.graph.initializer.extend(weights.initializers)
    path = folder / "spelt_out.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def milliseconds(step: Callable[[], object], repeat: int) -> float:
    """The least of a few runs: what the machine's other work can't have made shorter."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def decode(folder: Path, spec: DecoderSpec, rounds: int, threads: int) -> None:
    """Print a line per number of rows."""
    two_rows: list[float] = []
    for rows in reversed(ROWS):
        ours, theirs = (
            BareLoop(folder / name, spec, batch=rows, max_len=CONTEXT + 1, threads=threads)
            for name in ("model.onnx", "spelt_out.onnx")
        )
        ours.decode(CONTEXT)
        theirs.decode(CONTEXT)
        times = [[milliseconds(partial(loop.decode, CONTEXT), 4) for loop in (ours, theirs)] for _ in range(rounds)]
        report("decode", times, rows=rows, two_rows=two_rows if rows == 1 else None)
        two_rows = [theirs for _, theirs in times]


def prefill(folder: Path, spec: DecoderSpec, rounds: int, threads: int) -> None:
    """Print a line per length of a prompt."""
    ours, theirs = (
        BareLoop(folder / name, spec, batch=1, max_len=max(PROMPTS), threads=threads)
        for name in ("model.onnx", "spelt_out.onnx")
    )
    for length in PROMPTS:
        prompt = np.random.default_rng(0).integers(0, spec.vocab_size, length)
        times = [[milliseconds(partial(loop.prefill, prompt), 2) for loop in (ours, theirs)] for _ in range(rounds)]
        report("prefill", times, tokens=length)


def report(point: str, times: list[list[float]], *, two_rows: list[float] | None = None, **facts: int) -> None:
    """Print one line."""
    line = {
        "benchmark": "kernels", "point": point, **facts,
        "ours_ms": round(statistics.median(ours for ours, _ in times), 2),
        "onnxruntime_ms": round(statistics.median(theirs for _, theirs in times), 2),
        "ratio": round(statistics.median(theirs / ours for ours, theirs in times), 3),
    }  # fmt: skip
    if two_rows:
        line["ratio_two_rows"] = round(
            statistics.median(two / ours for (ours, _), two in zip(times, two_rows, strict=True)), 3
        )
    print(json.dumps(line), flush=True)


def main() -> None:
    """Convert, spell out, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="the model [default: the demo's]")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    gguf = options.gguf or demo_gguf()
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as scratch:
        folder = Path(scratch) / "model"
        spec = convert_gguf(gguf, folder).decoder
        if spec is None:
            raise SystemExit(f"{gguf} is no decoder")
        spell_out(folder)
        machine = {"cpu": processor_name(), "threads": options.threads, "onnxruntime": ort.__version__}
        print(json.dumps({"benchmark": "kernels", "point": "machine", **machine, "model": gguf.name}), flush=True)
        decode(folder, spec, options.rounds, options.threads)
        prefill(folder, spec, options.rounds, options.threads)


if __name__ == "__main__":
    main()
