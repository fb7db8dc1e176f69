"""Streams that run while prompts of 4,000 tokens arrive: how long they stand still."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator

from benchmarks.serving.client import ChatClient, Completion, run
from benchmarks.serving.figures import Figures, first_error, medians, milliseconds, quantile, ratios, report
from benchmarks.serving.prompts import listing
from benchmarks.serving.setting import Setting
from benchmarks.serving.sides import Shape

STREAMS = 4
LONG_WORDS = 3900
"""About 4,000 tokens with the template around them."""
LONG_PROMPTS = 2
QUIET_S = 5.0
SHAPE = Shape(slots=8, max_len=4608)


def measure(setting: Setting) -> None:
    """Print one line per side."""
    rounds = 1 if setting.quick else 3
    prompts = 1 if setting.quick else LONG_PROMPTS
    figures: dict[str, list[Figures]] = {}
    for turn in range(rounds):
        for side in setting.servers:
            with side.serving(SHAPE) as client:
                measured, error = run(_run(client, f"{turn}", prompts))
            if error:
                report("long_prompts", side=side.name, error=error)
            if measured:
                figures.setdefault(side.name, []).append(measured)
    for name, each in figures.items():
        same = len(each) == len(figures.get("llmos", ()))
        versus = {f"ratio_{name}": ratios(figures["llmos"], each)} if name != "llmos" and same else {}
        report(
            "long_prompts", side=name, rounds=len(each), streams=STREAMS, prompts=prompts, **medians(each), **versus
        )


async def _run(client: ChatClient, seed: str, prompts: int) -> tuple[Figures, str | None]:
    """Streams alone for a while, then with long prompts, until these have their first token."""
    rng = random.Random(seed)
    stop = asyncio.Event()
    answers: list[Completion] = []
    streams = [
        asyncio.create_task(_stream(client, random.Random(f"{seed} {n}"), stop, answers)) for n in range(STREAMS)
    ]
    await asyncio.sleep(QUIET_S)
    begun = time.perf_counter()
    long = await asyncio.gather(*(client.chat(listing(rng, LONG_WORDS), max_tokens=2) for _ in range(prompts)))
    ended = time.perf_counter()
    stop.set()
    await asyncio.gather(*streams)
    error = first_error([*long, *answers])
    if not all(answer.ok for answer in long):
        return {}, error
    quiet = list(itertools.chain.from_iterable(_gaps(answer, begun - QUIET_S + 2, begun) for answer in answers))
    loud = list(itertools.chain.from_iterable(_gaps(answer, begun, ended) for answer in answers))
    return {
        "itl_p50_before_ms": milliseconds(quantile(quiet, 0.5)),
        "itl_p99_before_ms": milliseconds(quantile(quiet, 0.99)),
        "itl_p50_during_ms": milliseconds(quantile(loud, 0.5)),
        "itl_p99_during_ms": milliseconds(quantile(loud, 0.99)),
        "itl_max_during_ms": milliseconds(max(loud, default=0.0)),
        "ttft_long_p50_ms": milliseconds(quantile((answer.ttft for answer in long), 0.5)),
        "streams_tok_per_s": round(len(loud) / (ended - begun), 2),
        "prompt_tokens": float(long[0].prompt_tokens),
    }, error


async def _stream(client: ChatClient, rng: random.Random, stop: asyncio.Event, answers: list[Completion]) -> None:
    """One stream after another, until `stop` or a failure, so that the number of streams is constant."""
    while not stop.is_set():
        answer = await client.chat(listing(rng, 30), max_tokens=SHAPE.max_len - 200, until=stop.is_set)
        answers.append(answer)
        if not answer.ok:
            return


def _gaps(answer: Completion, begin: float, end: float) -> Iterator[float]:
    """The gaps that ended within a time, and one that began in it and lasted on."""
    for before, after in itertools.pairwise(answer.stamps):
        if begin <= after < end or begin <= before < end:
            yield after - before
