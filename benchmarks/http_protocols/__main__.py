"""Measure all protocols in alternating rounds; prints one JSON line per figure: medians, and ratios to uvicorn's."""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
import uvloop

from benchmarks.gateway_alone.processes import KEY, gateway, nats_server
from benchmarks.gateway_alone.replica import MODEL
from benchmarks.serving.client import ChatClient

PROTOCOLS = ("httptools", "h11", "ours")
"""The first is the base of the ratios."""
CONCURRENCY = (16, 32)
SMALL_REQUESTS, SMALL_CONNECTIONS = 400, 8
WORKER = (sys.executable, "-m", "benchmarks.http_protocols.worker")
STEP_S = 0.01
"""Between two tokens of a stream."""


async def main() -> None:
    """All rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=400, help="of each stream")
    arguments = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as work:
        async with nats_server(Path(work)) as url:
            for number in range(arguments.rounds):
                order = PROTOCOLS if number % 2 == 0 else PROTOCOLS[::-1]
                rounds.append({each: await _measure(each, url, Path(work), arguments.tokens) for each in order})
    base = PROTOCOLS[0]
    for figure in rounds[0][base]:
        line: dict[str, object] = {"figure": figure}
        for each in PROTOCOLS:
            line[each] = round(statistics.median(found[each][figure] for found in rounds), 1)
            ratio = statistics.median(found[each][figure] / found[base][figure] for found in rounds)
            line[f"ratio_{each}"] = round(ratio, 3)
        print(json.dumps(line), flush=True)


async def _measure(protocol: str, nats: str, work: Path, tokens: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    command = (*WORKER, protocol)
    async with gateway(nats, work, step_s=STEP_S, command=command) as (pid, url):
        process, client = psutil.Process(pid), ChatClient(url, MODEL, KEY)
        for concurrency in CONCURRENCY:
            await _streams(client, concurrency, 30)
            used, began = _processor_s(process), time.perf_counter()
            count = await _streams(client, concurrency, tokens)
            figures[f"tokens/s, {concurrency} streams"] = count / (time.perf_counter() - began)
            figures[f"us per token, {concurrency} streams"] = (_processor_s(process) - used) / count * 1e6
        await _small_requests(client.url, 50)
        used, began = _processor_s(process), time.perf_counter()
        await asyncio.gather(*(_small_requests(client.url, SMALL_REQUESTS) for _ in range(SMALL_CONNECTIONS)))
        count = SMALL_REQUESTS * SMALL_CONNECTIONS
        figures["small requests/s"] = count / (time.perf_counter() - began)
        figures["us per small request"] = (_processor_s(process) - used) / count * 1e6
    return figures


async def _streams(client: ChatClient, concurrency: int, tokens: int) -> int:
    messages = [{"role": "user", "content": "words"}]
    answers = await asyncio.gather(*(client.chat(messages, max_tokens=tokens) for _ in range(concurrency)))
    failed = [answer.error for answer in answers if not answer.ok]
    if failed:
        raise SystemExit(f"{len(failed)} of {concurrency} streams failed: {failed[0]}")
    return sum(answer.completion_tokens for answer in answers)


async def _small_requests(url: str, count: int) -> None:
    """GET /v1/models, one after another on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    request = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    for _ in range(count):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
    writer.close()


def _processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    uvloop.run(main())
