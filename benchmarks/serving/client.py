"""A streaming client that costs little: it shares the machine's cores with the server, and slows the faster one more.

It speaks just enough HTTP/1.1 for `/v1/chat/completions` of any OpenAI-compatible server on loopback: one connection
a request, chunked answers. While a stream runs, what comes is kept with its time and not looked at.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvloop

from benchmarks.serving.prompts import Messages

TIMEOUT_S = 600.0


@dataclass(slots=True)
class Completion:
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
    def token_s(self) -> float:
        """Seconds per token after the first text; pieces may have several."""
        return (self.stamps[-1] - self.stamps[0]) / max(1, self.completion_tokens - 1)

    def tokens_within(self, begin: float, end: float) -> float:
        """How many of its tokens came within a time, if all its pieces had as many."""
        pieces = sum(begin <= stamp < end for stamp in self.stamps)
        return self.completion_tokens * pieces / max(1, len(self.stamps))

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
    ) -> Completion:
        """Ask and read the stream to its end, or until `until` says so when something comes. Never raises."""
        return (await self.record(messages, max_tokens=max_tokens, until=until, **more)).answer()

    async def record(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        until: Callable[[], bool] = lambda: False,
        **more: Any,
    ) -> "Recording":
        """As `chat`, not read yet."""
        body = json.dumps(
            {
                "model": self.model,
                "messages": messages,
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": max_tokens,
                "temperature": 0,
                "ignore_eos": True,
                **more,
            }
        ).encode()
        address = urlsplit(self.url)
        key = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\n{key}Connection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        recording = Recording(loop.create_future(), until)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                transport, _ = await loop.create_connection(
                    lambda: recording, str(address.hostname), address.port or 80
                )
                try:
                    transport.write(head.encode() + body)
                    await recording.ended
                finally:
                    transport.abort()
        except (OSError, TimeoutError) as error:  # a load generator reports every failure
            recording.error = repr(error)
        return recording


class Recording(asyncio.Protocol):
    """What came from the server, and when."""

    def __init__(self, ended: "asyncio.Future[None]", until: Callable[[], bool]) -> None:
        self.ended = ended
        self.error: str | None = None
        self._until = until
        self._start = time.perf_counter()
        self._pieces: list[tuple[float, bytes]] = []
        self._stopped = False

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self._pieces.append((time.perf_counter(), data))
        self._stopped = self._stopped or self._until()
        if self._stopped or data.endswith(b"0\r\n\r\n"):  # the last chunk; a server may keep the connection
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """The answer is over, or broken off."""
        if exc is not None:
            self.error = repr(exc)
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def answer(self) -> Completion:
        """Read it."""
        answer = Completion(self._start, error=self.error)
        answer.end = self._pieces[-1][0] if self._pieces else time.perf_counter()
        try:
            self._read(answer)
        except (ValueError, LookupError) as error:
            answer.error = answer.error or repr(error)
        return answer

    def _read(self, answer: Completion) -> None:
        whole = b"".join(data for _, data in self._pieces)
        head, _, body = whole.partition(b"\r\n\r\n")
        if not head:
            answer.error = answer.error or "the server said nothing"
            return
        answer.status = int(head.split(None, 2)[1])
        if answer.status != 200:
            answer.error = f"HTTP {answer.status}: {body[:300].decode(errors='replace')}"
            return
        done = False
        for stamp, line in self._lines(len(whole) - len(body), chunked=b"chunked" in head.lower()):
            done = line == b"data: [DONE]"
            if line.startswith(b"data:") and not done:
                _take(json.loads(line[5:]), stamp, answer)
        if not (done or self._stopped or answer.error):
            answer.error = "the stream broke off"

    def _lines(self, skip: int, *, chunked: bool) -> Iterator[tuple[float, bytes]]:
        """The lines of the body, without their ends, and when each was complete."""
        rest, text = b"", b""
        for stamp, data in self._pieces:
            rest += data[skip:]
            skip = max(0, skip - len(data))
            if chunked:
                rest, more = _dechunk(rest)
            else:
                rest, more = b"", rest
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                if stripped := line.strip():
                    yield stamp, stripped


def _dechunk(data: bytes) -> tuple[bytes, bytes]:
    """What is left of chunked data, and the content of its whole chunks."""
    content = b""
    while (line := data.find(b"\r\n")) >= 0:
        size = int(data[:line].split(b";")[0], 16)
        end = line + 2 + size + 2
        if len(data) < end:
            break
        content += data[line + 2 : end - 2]
        data = data[end:]
    return data, content


def _take(event: dict[str, Any], stamp: float, answer: Completion) -> None:
    if "error" in event:
        answer.error = str(event["error"])
        return
    if usage := event.get("usage"):
        answer.prompt_tokens = usage["prompt_tokens"]
        answer.completion_tokens = usage["completion_tokens"]
        answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    for choice in event.get("choices") or ():
        if text := choice.get("delta", {}).get("content"):
            answer.stamps.append(stamp)
            answer.text += text


async def closed_loop(
    client: ChatClient, prompts: list[Messages], *, concurrency: int, max_tokens: int, ignore_eos: bool = True
) -> list[Completion]:
    """Ask all prompts, `concurrency` at a time; the answers are read when all are there."""
    left, recordings = iter(prompts), []

    async def worker() -> None:
        for messages in left:  # an iterator is shared: each prompt is taken once
            recording = await client.record(messages, max_tokens=max_tokens, ignore_eos=ignore_eos)
            recordings.append(recording)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return [recording.answer() for recording in recordings]


Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a client's work on the loop that costs least."""
    return uvloop.run(work)
