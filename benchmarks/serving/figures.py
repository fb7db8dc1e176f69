"""From answers to figures, from rounds to medians, from two sides to ratios."""

import json
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.serving.client import Completion

Figures = dict[str, float]


def quantile(values: Iterable[float], q: float) -> float:
    """The value below which a share `q` of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def milliseconds(seconds: float) -> float:
    """Rounded for print."""
    return round(seconds * 1000, 2)


def of_answers(answers: Sequence[Completion]) -> Figures:
    """Throughput over the whole time, and latencies over all requests."""
    good = [answer for answer in answers if answer.ok]
    if not good:
        return {"failed": float(len(answers))}
    wall = max(answer.end for answer in answers) - min(answer.start for answer in answers)
    gaps = [gap for answer in good for gap in answer.gaps]
    return {
        "output_tok_per_s": round(sum(answer.completion_tokens for answer in good) / wall, 2),
        "ttft_p50_ms": milliseconds(quantile((answer.ttft for answer in good), 0.5)),
        "tpot_p50_ms": milliseconds(quantile((answer.token_s for answer in good), 0.5)),
        "itl_p50_ms": milliseconds(quantile(gaps, 0.5)),
        "itl_p99_ms": milliseconds(quantile(gaps, 0.99)),
        "prompt_tokens": float(statistics.median(answer.prompt_tokens for answer in good)),
        "failed": float(len(answers) - len(good)),
    }


def medians(rounds: Sequence[Figures]) -> Figures:
    """Of each figure that all rounds have."""
    shared = [name for name in rounds[0] if all(name in figures for figures in rounds)]
    return {name: round(statistics.median(figures[name] for figures in rounds), 3) for name in shared}


def ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Figures:
    """Ours / theirs, round by round, then the median. Above 1 is better for rates, below 1 for latencies."""
    pairs = list(zip(ours, theirs, strict=True))
    names = [
        name
        for name in ours[0]
        if name.endswith(("_ms", "_per_s")) and all(mine.get(name) and their.get(name) for mine, their in pairs)
    ]
    return {name: round(statistics.median(mine[name] / their[name] for mine, their in pairs), 3) for name in names}


def first_error(answers: Iterable[Completion]) -> str | None:
    """What went wrong first, if anything did."""
    return next((answer.error for answer in answers if answer.error), None)


def report(scenario: str, **facts: Any) -> None:
    """One JSON line."""
    print(json.dumps({"benchmark": "serving", "scenario": scenario} | facts), flush=True)
