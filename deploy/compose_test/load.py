"""Eight streams through the published ports, each answer compared with that of a quiet system."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

MODEL = "smollm2"
STREAMS = 8
ANSWER_S = 120.0
"""For one answer, with all its repetitions."""
_AGAIN = {429, 502, 503, 504}
"""Statuses after which clients of this API ask again, as the `openai` package does."""
_PROMPTS = [f"Write a short story about the number {number}." for number in range(STREAMS)]
_TOKENS = 48


class Load:
    """Streams that follow one another until told to stop.

    A client asks again when a connection ends or a status says so, at the next gateway; that is counted. A request
    has failed when no answer comes within `ANSWER_S`, when a stream ends with an error, or when its text differs from
    that of the quiet system.

    Args:
        urls: Of the gateways.
        key: For them.
    """

    def __init__(self, urls: Sequence[str], key: str) -> None:
        self._urls, self._key = list(urls), key
        self._expected: dict[str, str] = {}
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.answers = 0
        self.by_gateway: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()

    def learn(self) -> None:
        """Ask each prompt once, alone."""
        for prompt in _PROMPTS:
            self._expected[prompt] = self._stream(self._urls[0], prompt)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Eight streams while the block runs; all have ended after it."""
        self._reset()
        threads = [threading.Thread(target=self._repeat, args=(lane,)) for lane in range(STREAMS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def summary(self) -> str:
        """What came of it, in words."""
        again = ", ".join(f"{count} {why}" for why, count in sorted(self.again.items()))
        return f"{self.answers} answers, {len(self.failures)} failed, asked again: {again or 'none'}"

    def _repeat(self, lane: int) -> None:
        while not self._stop.is_set():
            self._ask(lane)

    def _ask(self, lane: int) -> None:
        prompt, deadline, last, turn = _PROMPTS[lane], time.monotonic() + ANSWER_S, "", lane
        while time.monotonic() < deadline:
            url = self._urls[turn % len(self._urls)]
            turn += 1
            try:
                text = self._stream(url, prompt)
            except _AskAgain as why:
                last = str(why)
                with self._lock:
                    self.again[last] += 1
                time.sleep(0.3)
                continue
            except AssertionError as error:
                last = str(error)
                break
            if text == self._expected[prompt]:
                with self._lock:
                    self.answers += 1
                    self.by_gateway[url] += 1
                return
            last = f"another text than before: {text!r}"
            break
        with self._lock:
            self.failures.append(f"{prompt}: {last}")

    def _stream(self, url: str, prompt: str) -> str:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": _TOKENS,
            "temperature": 0,
            "stream": True,
        }
        headers = {"Authorization": f"Bearer {self._key}"}
        text, ended = "", False
        try:
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60) as answer:
                if answer.status_code in _AGAIN:
                    raise _AskAgain(f"after status {answer.status_code}")
                if answer.status_code != 200:
                    raise AssertionError(f"status {answer.status_code}: {answer.read()[:300]!r}")
                for line in answer.iter_lines():
                    if not line.startswith("data: "):
                        continue
                    if line == "data: [DONE]":
                        ended = True
                        continue
                    chunk = json.loads(line.removeprefix("data: "))
                    if "error" in chunk:
                        raise AssertionError(f"an error in the stream: {chunk['error']}")
                    text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
        except httpx.HTTPError as error:
            raise _AskAgain(f"after {'a cut stream' if text else 'a lost connection'}") from error
        if not ended:
            raise _AskAgain("after a cut stream")
        return text


class _AskAgain(Exception):
    """The client may repeat the request; why."""
