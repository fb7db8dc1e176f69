"""Keys and values in float16 beside float32: the same graph of the demo's model, in turn.

    python -m benchmarks.kv_types [--gguf FILE] [--rounds N] [--threads N]

One JSON line per point: milliseconds of a step, `ratio` float32 / float16 (above 1: float16 is faster), the median
over rounds. Decode steps of some sequences after a context; prompts in one chunk.
"""

import argparse
import json
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from benchmarks.bare_loop import BareLoop
from benchmarks.kernels import milliseconds
from benchmarks.processor import processor_name
from devtools.convert import convert_gguf
from llmos.cli.demo import demo_gguf
from shared.contracts.manifest import DecoderSpec

POINTS = ((1, 128), (1, 2000), (4, 1000), (16, 128), (16, 1000), (32, 512))
"""Sequences, and the tokens that each has."""
PROMPTS = (64, 256, 1024)
TYPES = ("float32", "float16")


def write_graphs(folder: Path) -> None:
    """Write the graph in `folder` twice more, with caches of each type."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for kept in TYPES:
        for value in (*model.graph.input, *model.graph.output):
            if value.name.startswith(("past_", "present_")):
                value.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kept))
        (folder / f"{kept}.onnx").write_bytes(model.SerializeToString())


def loops(folder: Path, spec: DecoderSpec, *, batch: int, max_len: int, threads: int) -> list[BareLoop]:
    """One for each type."""
    return [BareLoop(folder / f"{kept}.onnx", spec, batch=batch, max_len=max_len, threads=threads) for kept in TYPES]


def report(point: str, times: list[list[float]], **facts: int) -> None:
    """Print one line."""
    line = {
        "benchmark": "kv_types", "point": point, **facts,
        "float32_ms": round(statistics.median(floats for floats, _ in times), 2),
        "float16_ms": round(statistics.median(halves for _, halves in times), 2),
        "ratio": round(statistics.median(floats / halves for floats, halves in times), 3),
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def main() -> None:
    """Convert, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="the model [default: the demo's]")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    gguf = options.gguf or demo_gguf()
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as scratch:
        folder = Path(scratch) / "model"
        spec = convert_gguf(gguf, folder).the_decoder
        write_graphs(folder)
        machine = {"cpu": processor_name(), "threads": options.threads, "model": gguf.name}
        print(json.dumps({"benchmark": "kv_types", "point": "machine", **machine}), flush=True)
        for batch, context in POINTS:
            both = loops(folder, spec, batch=batch, max_len=context + 1, threads=options.threads)
            for loop in both:
                loop.decode(context)
            steps = [partial(loop.decode, context) for loop in both]
            times = [[milliseconds(step, 4) for step in steps] for _ in range(options.rounds)]
            report("decode", times, sequences=batch, context=context)
        for length in PROMPTS:
            both = loops(folder, spec, batch=1, max_len=length, threads=options.threads)
            prompt = np.random.default_rng(0).integers(0, spec.vocab_size, length)
            prompts = [partial(loop.prefill, prompt) for loop in both]
            times = [[milliseconds(step, 2) for step in prompts] for _ in range(max(options.rounds // 2, 1))]
            report("prefill", times, tokens=length)


if __name__ == "__main__":
    main()
