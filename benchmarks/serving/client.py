"""A streaming client that costs little: it shares the machine's cores with the server, and slows the faster one more.

It speaks just enough HTTP/1.1 for `/v1/chat/completions` of any OpenAI-compatible server on loopback: one connection
a request, chunked answers.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks.serving.prompts import Messages

TIMEOUT_S = 600.0


@dataclass(slots=True)
class Answer:
    """One request as its client saw it; times are `time.perf_counter()`."""

    start: float
    stamps: list[float] = field(default_factory=list)
    """When each piece of text arrived."""
    end: float = 0.0
    status: int = 0
    error: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    text: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was answered to its end."""
        return self.error is None and bool(self.stamps)

    @property
    def ttft(self) -> float:
        """Seconds to the first text."""
        return self.stamps[0] - self.start

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces of text."""
        return [after - before for before, after in zip(self.stamps, self.stamps[1:], strict=False)]


@dataclass(frozen=True, slots=True)
class ChatClient:
    """Asks one model of one server."""

    url: str
    """Of the server, without `/v1`."""
    model: str
    key: str = ""

    async def chat(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        until: Callable[[], bool] = lambda: False,
        **more: Any,
    ) -> Answer:
        """Ask and read the stream to its end, or until `until` says so after a piece of text. Never raises."""
        body = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            **more,
        }
        answer = Answer(time.perf_counter())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._ask(json.dumps(body).encode(), answer, until)
        except (OSError, TimeoutError, EOFError, ValueError) as error:  # a load generator reports every failure
            answer.error = answer.error or repr(error)
        answer.end = time.perf_counter()
        return answer

    async def _ask(self, body: bytes, answer: Answer, until: Callable[[], bool]) -> None:
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            key = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
            writer.write(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\n{key}Connection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            answer.status = int(head.split(None, 2)[1])
            if answer.status != 200:
                answer.error = f"HTTP {answer.status}: {(await reader.read(300)).decode(errors='replace')}"
                return
            async for line in _lines(reader, chunked=b"chunked" in head.lower()):
                if line.startswith(b"data:") and line != b"data: [DONE]":
                    _take(json.loads(line[5:]), answer)
                    if answer.error or until():
                        return
        finally:
            writer.close()


def _take(event: dict[str, Any], answer: Answer) -> None:
    if "error" in event:
        answer.error = str(event["error"])
        return
    if usage := event.get("usage"):
        answer.prompt_tokens = usage["prompt_tokens"]
        answer.completion_tokens = usage["completion_tokens"]
        answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    for choice in event.get("choices") or ():
        if text := choice.get("delta", {}).get("content"):
            answer.stamps.append(time.perf_counter())
            answer.text += text


async def _lines(reader: asyncio.StreamReader, *, chunked: bool) -> AsyncIterator[bytes]:
    """The lines of a body, without their ends."""
    rest = b""
    while True:
        if chunked:
            size = int((await reader.readline()).split(b";")[0] or b"0", 16)
            data = (await reader.readexactly(size + 2))[:-2]
        else:
            data = await reader.read(65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if stripped := line.strip():
                yield stripped


async def closed_loop(
    client: ChatClient, prompts: list[Messages], *, concurrency: int, max_tokens: int
) -> list[Answer]:
    """Ask all prompts, `concurrency` at a time."""
    left, answers = iter(prompts), []

    async def worker() -> None:
        for messages in left:  # an iterator is shared: each prompt is taken once
            answer = await client.chat(messages, max_tokens=max_tokens)
            answers.append(answer)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return answers
