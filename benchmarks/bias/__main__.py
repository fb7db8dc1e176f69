"""Means against bias on a corpus whose bias is known: jobs go with pronouns 9 : 1, names decide the pronoun rightly.

    python -m benchmarks.bias [--quick] [--seeds 2] [--table]
    python -m benchmarks.bias --fine-tune [--gguf MODEL]

Each model is trained from scratch (size nano) with the loop and the recipes of `llmos train`, on rows that the steps
of `llmos data prepare` made. Prints one JSON line for each of the means; --table prints a table of Markdown at the
end. `bias` is the mean of P(stereotyped) - P(other) after a job: 0 is none, 0.8 is the corpus. `right` is
P(right pronoun) after a name. `perplexity` is that of a word of unbiased test sentences. Figures are means over the
seeds, and `spread` is half the distance between the lowest and the highest bias.

--fine-tune instead trains adapters of SmolLM2 on decisions that depend on a name (`fine_tune`), with and without
`--swap gender`: `bias` is the mean of P(yes | man) - P(yes | woman) over counterfactual pairs of unseen names.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.bias.fine_tune import fine_tune, measure
from benchmarks.bias.means import MEANS, Means
from benchmarks.bias.run import STEPS, Learnt, learn
from benchmarks.processor import processor_name
from devtools.train.base import open_base
from llmos.cli.demo import demo_gguf


def main() -> None:
    """Train all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="eight of the means, one seed")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="the means whose names have one of these words")
    parser.add_argument("--seeds", type=int, help="models for each of the means [default: 2, or 1 with --quick]")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--table", action="store_true", help="print a table at the end")
    parser.add_argument("--fine-tune", action="store_true", help="the effect of --swap on a fine-tune of SmolLM2")
    parser.add_argument("--gguf", type=Path, help="with --fine-tune: the model [default: the demo's]")
    options = parser.parse_args()
    seeds = options.seeds or (1 if options.quick else 2)
    chosen = [means for means in MEANS if _chosen(means, options.only, quick=options.quick)]
    machine = {"cpu": processor_name(), "processes": options.processes, "torch": torch.__version__}
    print(json.dumps({"benchmark": "bias", "point": "machine", **machine, "steps": options.steps}), flush=True)
    if options.fine_tune:
        _fine_tune(options.gguf or demo_gguf(), options.processes)
        return
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="llmos-bench-") as scratch,
        ProcessPoolExecutor(options.processes, get_context("spawn")) as pool,
    ):
        runs = [
            [pool.submit(learn, means, Path(scratch) / f"{at}-{seed}", seed=seed, steps=options.steps)
             for seed in range(seeds)]
            for at, means in enumerate(chosen)
        ]  # fmt: skip
        for means, futures in zip(chosen, runs, strict=True):
            rows.append(_line(means, [future.result() for future in futures]))
            print(json.dumps(rows[-1]), flush=True)
    if options.table:
        print(_table(rows))


def _fine_tune(gguf: Path, threads: int) -> None:
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as scratch:
        bias, right = asyncio.run(measure(open_base(gguf)))
        _print_fine_tune("before", bias, right, rows=0, model=gguf.name)
        for swapped in (False, True):
            folder = Path(scratch) / str(swapped)
            found = fine_tune(gguf, folder, swapped=swapped, threads=threads)
            name = "rows with counterfactual copies" if swapped else "rows as they are"
            _print_fine_tune(name, found.bias, found.right, rows=found.rows, processor_s=round(found.seconds, 1))


def _print_fine_tune(point: str, bias: float, right: float, **facts: Any) -> None:
    line = {"benchmark": "bias", "point": f"fine-tune, {point}", "bias": round(bias, 3), "right": round(right, 3)}
    print(json.dumps({**line, **facts}), flush=True)


def _chosen(means: Means, only: Sequence[str] | None, *, quick: bool) -> bool:
    if only:
        return any(word.lower() in means.name.lower() for word in only)
    return means.quick or not quick


def _line(means: Means, found: Sequence[Learnt]) -> dict[str, Any]:
    biases = [one.bias for one in found]
    return {
        "benchmark": "bias",
        "point": means.name,
        "kind": means.kind,
        "bias": round(fmean(biases), 3),
        "spread": round((max(biases) - min(biases)) / 2, 3),
        "right": round(fmean(one.right for one in found), 3),
        "perplexity": round(fmean(one.perplexity for one in found), 2),
        "rows": found[0].rows,
        "seeds": len(found),
        "processor_s": round(fmean(one.seconds for one in found), 1),
    }


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| means | kind | bias | right | perplexity | rows |", "|---|---|---|---|---|---|"]
    for row in rows:
        spread = f" ± {row['spread']:.3f}" if row["seeds"] > 1 else ""
        figures = f"{row['bias']:.3f}{spread} | {row['right']:.3f} | {row['perplexity']:.2f} | {row['rows']:,}"
        lines.append(f"| {row['point']} | {row['kind']} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
