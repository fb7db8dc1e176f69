"""Four times the sustainable rate: what is shed, what the accepted ones feel, and what one tenant's flood does."""

import asyncio
import random
import time

from benchmarks.serving.client import ChatClient, Completion, closed_loop, run
from benchmarks.serving.figures import Figures, milliseconds, of_answers, quantile, ratios, report
from benchmarks.serving.prompts import listing, listings
from benchmarks.serving.setting import Setting
from benchmarks.serving.sides import Shape

SLOTS = 16
PROMPT_WORDS = 100
ANSWER_TOKENS = 64
TIMES = 4
SHED = {429, 503}
"""The statuses of a typed rejection."""
SHAPE = Shape(slots=SLOTS, max_len=512)


def measure(setting: Setting) -> None:
    """Print the overload's line, then the flood's."""
    overload_s, seconds = (45.0, 15.0) if setting.quick else (90.0, 40.0)
    with setting.llmos.serving(SHAPE) as client:
        other = ChatClient(client.url, client.model, setting.llmos.key("quiet tenant"))
        run(closed_loop(client, listings("warm up", 2, PROMPT_WORDS), concurrency=2, max_tokens=8))
        prompts = listings("best", SLOTS * (4 if setting.quick else 6), PROMPT_WORDS)
        full = run(closed_loop(client, prompts, concurrency=SLOTS, max_tokens=ANSWER_TOKENS))
        best = of_answers(full)
        rate = best["output_tok_per_s"] / ANSWER_TOKENS
        run(_overload(client, best, rate * TIMES, overload_s))
        run(_flood(client, other, seconds))


async def _overload(client: ChatClient, best: Figures, rate: float, seconds: float) -> None:
    """Requests at random times, `rate` a second, whether others were answered or not."""
    rng = random.Random("overload")
    begun = time.perf_counter()
    tasks = []
    while (now := time.perf_counter()) < begun + seconds:
        tasks.append(asyncio.create_task(client.chat(listing(rng, PROMPT_WORDS), max_tokens=ANSWER_TOKENS)))
        await asyncio.sleep(max(0.0, rng.expovariate(rate) - (time.perf_counter() - now)))
    stopped = time.perf_counter()
    answers = await asyncio.gather(*tasks)
    accepted = [answer for answer in answers if answer.ok]
    shed = [answer for answer in answers if answer.status in SHED]
    # Tokens of the time in which the queue is full: from the first rejection to the last arrival.
    full = min((answer.end for answer in shed), default=begun)
    window = (full, stopped)
    per_second = sum(answer.tokens_within(*window) for answer in accepted) / (window[1] - window[0])
    figures = of_answers(accepted)
    report(
        "overload",
        times=TIMES,
        offered_per_s=round(rate, 2),
        seconds=round(seconds, 1),
        requests=len(answers),
        accepted=len(accepted),
        shed=len(shed),
        failed_otherwise=len(answers) - len(accepted) - len(shed),
        full_after_s=round(full - begun, 1) if shed else None,
        shed_after_p99_ms=milliseconds(quantile((answer.end - answer.start for answer in shed), 0.99)),
        output_tok_per_s=round(per_second, 2),
        best_tok_per_s=best["output_tok_per_s"],
        throughput_to_best=round(per_second / best["output_tok_per_s"], 3) if shed else None,
        ttft_p50_ms=figures.get("ttft_p50_ms"),
        ttft_max_ms=milliseconds(max((answer.ttft for answer in accepted), default=0.0)),
        tpot_p50_ms=figures.get("tpot_p50_ms"),
        tpot_p50_to_best=round(figures.get("tpot_p50_ms", 0.0) / best["tpot_p50_ms"], 3),
        last_answer_after_s=round(max(answer.end for answer in answers) - stopped, 1),
    )


async def _flood(noisy: ChatClient, quiet: ChatClient, seconds: float) -> None:
    """One tenant asks now and then: alone, beside one that takes the other slots, beside one that asks for far more.

    The second is the other tenant's share. What the third adds is what its flood does.
    """
    alone = of_answers(await _now_and_then(quiet, "alone", seconds / 2))
    beside, busy = await _beside(noisy, quiet, SLOTS - 1, seconds)
    flooded, flood = await _beside(noisy, quiet, 3 * SLOTS, seconds)
    report(
        "two_tenants",
        quiet_alone=alone,
        quiet_beside_full_slots=beside,
        quiet_beside_flood=flooded,
        full_slots=of_answers(busy),
        flood=of_answers(flood),
        flood_shed=sum(answer.status in SHED for answer in flood),
        flood_to_alone=ratios([flooded], [alone]),
        flood_to_full_slots=ratios([flooded], [beside]),
    )


async def _beside(
    noisy: ChatClient, quiet: ChatClient, concurrency: int, seconds: float
) -> tuple[Figures, list[Completion]]:
    """The quiet tenant's figures and the noisy one's answers, while that keeps `concurrency` requests in flight."""
    stop = asyncio.Event()
    answers: list[Completion] = []
    workers = [asyncio.create_task(_keep_asking(noisy, number, stop, answers)) for number in range(concurrency)]
    await asyncio.sleep(seconds / 6)
    figures = of_answers(await _now_and_then(quiet, f"beside {concurrency}", seconds))
    stop.set()
    await asyncio.gather(*workers)
    return figures, answers


async def _now_and_then(client: ChatClient, seed: str, seconds: float) -> list[Completion]:
    """One request after another for a while; at least two."""
    rng = random.Random(seed)
    answers: list[Completion] = []
    begun = time.perf_counter()
    while len(answers) < 2 or time.perf_counter() < begun + seconds:
        answers.append(await client.chat(listing(rng, PROMPT_WORDS), max_tokens=ANSWER_TOKENS))
    return answers


async def _keep_asking(client: ChatClient, number: int, stop: asyncio.Event, answers: list[Completion]) -> None:
    rng = random.Random(f"flood {number}")
    while not stop.is_set():
        answer = await client.chat(listing(rng, PROMPT_WORDS), max_tokens=ANSWER_TOKENS)
        answers.append(answer)
        if not answer.ok:
            await asyncio.sleep(0.5)  # a client that heeds Retry-After waits longer
