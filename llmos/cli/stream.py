"""Prints a streamed answer as it arrives, and how fast it came."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from llmos.cli.output import note, write
from llmos.client import ChatDelta

TOGETHER_S = 0.001
"""Pieces that follow the first within this time waited with it: on a busy machine the reader is late."""
SHORTEST_S = 0.01
"""Less time between the first and the last token says nothing of the model: they came in one or two packets."""


@dataclass(frozen=True, slots=True)
class PrintedText:
    """Generated text that was printed."""

    text: str
    trace_id: str


@dataclass(slots=True)
class Speed:
    """When the tokens of one answer came. A step may give several: a draft that was accepted, a text held back."""

    start: float
    """When it was asked for, in seconds."""
    first: float | None = None
    """When its first tokens came."""
    last: float = 0.0
    """When its last tokens came."""
    at_first: int = 0
    """Tokens that came first, together."""
    total: int = 0
    """All of them, by the answer's usage."""

    def add(self, delta: ChatDelta, now: float) -> None:
        """Count a piece of the answer that came at `now`."""
        tokens = delta.tokens or bool(delta.text)
        if tokens:
            if self.first is None:
                self.first = now
            if now - self.first < TOGETHER_S:
                self.at_first += tokens
            self.last = now
        if delta.usage is not None:
            self.total = delta.usage.get("completion_tokens", 0)

    def __str__(self) -> str:
        """`8 tokens · 61.2 tokens/s · first after 0.12 s`: tokens after the first, in the time after it."""
        text = "1 token" if self.total == 1 else f"{self.total} tokens"
        if self.first is None:
            return text
        after, seconds = self.total - self.at_first, self.last - self.first
        if after > 0 and seconds >= SHORTEST_S:
            text += f" · {after / seconds:.1f} tokens/s"
        return f"{text} · first after {self.first - self.start:.2f} s"


def print_stream(deltas: Iterator[ChatDelta]) -> PrintedText:
    """Print a stream on standard output, then its speed on standard error."""
    parts: list[str] = []
    speed, trace_id = Speed(time.perf_counter()), ""
    for delta in deltas:
        speed.add(delta, time.perf_counter())
        write(delta.text)
        parts.append(delta.text)
        trace_id = delta.trace_id
    write("\n")
    note(f"{speed} · trace {trace_id}", style="dim")
    return PrintedText("".join(parts), trace_id)
