"""Ask in turn: a chat, and the same in another dialect. Prints a JSON line for each: medians, and their ratio."""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import uvloop

from benchmarks.dialects.connection import Connection
from benchmarks.dialects.requests import CHAT, OTHERS, Dialect
from benchmarks.gateway_alone.processes import KEY, gateway, nats_server

WARM_UP = 50
"""Requests in each dialect before it is measured."""
WORDS = "the quick brown fox jumps over the lazy dog and runs on through the night"


async def main() -> None:
    """All dialects, streamed and not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="in each dialect, and as many chats")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer; each is a message on the bus")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        async with nats_server(Path(work)) as nats, gateway(nats, Path(work), step_s=0.0) as (_, url):
            connection = Connection(int(url.rsplit(":", 1)[1]), KEY)
            for stream in (True, False):
                for dialect in OTHERS:
                    line = await _compare(connection, dialect, arguments.requests, arguments.tokens, stream=stream)
                    print(json.dumps(line), flush=True)
            connection.close()


async def _compare(
    connection: Connection, dialect: Dialect, requests: int, tokens: int, *, stream: bool
) -> dict[str, object]:
    """The figures of one dialect; raises `SystemExit` if its text is not the chat's."""
    both = (CHAT, dialect)
    bodies = {each.name: each.request(WORDS, tokens, stream=stream) for each in both}
    seconds: dict[str, list[float]] = {each.name: [] for each in both}
    texts: dict[str, str] = {}
    for number in range(WARM_UP + requests):
        for each in both if number % 2 else both[::-1]:
            spent, answer = await connection.post(each.path, bodies[each.name])
            if number >= WARM_UP:
                seconds[each.name].append(spent)
            else:
                texts[each.name] = each.text(answer, stream=stream)
    if len(set(texts.values())) != 1 or not texts[CHAT.name]:
        raise SystemExit(f"{dialect.name} has another text than the chat: {texts}")
    chat, other = (statistics.median(seconds[each.name]) for each in both)
    return {
        "dialect": dialect.name,
        "stream": stream,
        "tokens": tokens,
        "chat_ms": round(chat * 1e3, 3),
        "ms": round(other * 1e3, 3),
        "ratio": round(other / chat, 3),
    }


if __name__ == "__main__":
    uvloop.run(main())
