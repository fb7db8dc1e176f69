"""`python -m devtools.train.lesson --base MODEL --output FOLDER`: events of the run, then one line of proof."""

import argparse
import sys
from pathlib import Path

from devtools.train import progress
from devtools.train.lesson.proof import as_line, prove

parser = argparse.ArgumentParser(prog="python -m devtools.train.lesson", description=__doc__)
parser.add_argument("--base", type=Path, required=True, help="SmolLM2-135M-Instruct, a GGUF")
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--threads", type=int)
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()
proof = prove(
    given.base,
    given.output,
    on_event=lambda event: print(progress.as_line(event), file=sys.stderr, flush=True),
    threads=given.threads,
    seed=given.seed,
)
print(as_line(proof))
