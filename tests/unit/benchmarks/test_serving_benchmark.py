"""The load generator reads streams rightly, and ratios point the way their names say."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from benchmarks.serving.client import ChatClient, Completion, closed_loop
from benchmarks.serving.figures import medians, of_answers, quantile, ratios
from benchmarks.serving.prompts import listings


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
END = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\ndata: [DONE]\n\n"


@asynccontextmanager
async def serving(status: str, pieces: Sequence[bytes]) -> AsyncIterator[ChatClient]:
    """A server that answers every request with these pieces, each as a chunk of its own."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        await reader.readexactly(length)
        writer.write(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for piece in (*pieces, b""):
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield ChatClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "m")


async def ask(status: str, pieces: Sequence[bytes]) -> Completion:
    async with serving(status, pieces) as client:
        return await client.chat([{"role": "user", "content": "x"}], max_tokens=2)


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_stream_is_read_wherever_its_chunks_are_cut(size):
    stream = event("Hé") + event("llo") + END
    answer = await ask("200 OK", [stream[at : at + size] for at in range(0, len(stream), size)])
    assert (answer.ok, answer.text, len(answer.stamps)) == (True, "Héllo", 2)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens) == (7, 2, 4)
    assert answer.start <= answer.stamps[0] <= answer.stamps[1] <= answer.end


async def test_a_rejection_is_told_with_its_status():
    answer = await ask("429 Too Many Requests", [b'{"error": {"message": "too much"}}'])
    assert not answer.ok
    assert answer.status == 429
    assert "too much" in str(answer.error)


async def test_a_stream_that_breaks_off_is_a_failure():
    answer = await ask("200 OK", [event("Hé"), b'data: {"error": {"message": "lost"}}\n\n'])
    assert not answer.ok
    assert "lost" in str(answer.error)


async def test_a_closed_loop_asks_each_prompt_once():
    async with serving("200 OK", [event("a"), END]) as client:
        answers = await closed_loop(client, listings("s", 7, 3), concurrency=3, max_tokens=2)
    assert len(answers) == 7
    assert of_answers(answers)["failed"] == 0


def test_every_side_of_a_round_is_asked_the_same_and_each_round_something_new():
    assert listings("1", 3, 5) == listings("1", 3, 5)
    assert listings("1", 3, 5) != listings("2", 3, 5)
    assert len({prompt[0]["content"] for prompt in listings("1", 3, 5)}) == 3


def test_throughput_counts_the_time_from_the_first_start_to_the_last_end():
    answers = [
        Completion(start=0.0, stamps=[1.0, 1.5], end=2.0, completion_tokens=10),
        Completion(start=1.0, stamps=[2.0, 3.0], end=5.0, completion_tokens=15),
    ]
    figures = of_answers([*answers, Completion(start=1.0, end=1.0, status=429, error="HTTP 429")])
    assert figures["output_tok_per_s"] == 5.0
    assert figures["ttft_p50_ms"] == 1000.0
    assert figures["failed"] == 1


def test_ratios_are_ours_to_theirs_of_the_same_round():
    ours = [{"output_tok_per_s": 20.0, "ttft_p50_ms": 50.0}, {"output_tok_per_s": 2.0, "ttft_p50_ms": 5.0}]
    theirs = [{"output_tok_per_s": 10.0, "ttft_p50_ms": 100.0}, {"output_tok_per_s": 1.0, "ttft_p50_ms": 10.0}]
    assert ratios(ours, theirs) == {"output_tok_per_s": 2.0, "ttft_p50_ms": 0.5}
    assert medians(ours) == {"output_tok_per_s": 11.0, "ttft_p50_ms": 27.5}


def test_quantiles():
    assert quantile(range(100), 0.5) == 50
    assert quantile(range(100), 0.99) == 99
    assert quantile([], 0.5) == 0
