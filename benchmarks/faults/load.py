"""Chats that go on all the time, and what became of each."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

TIMEOUT_S = 90.0
PAUSE_S = 0.2
"""Between two chats of one client."""
BODY = {"max_tokens": 8, "temperature": 0}


@dataclass(frozen=True, slots=True)
class Chat:
    """One request and its answer."""

    begun: float
    """Seconds since the load began."""
    seconds: float
    status: int
    """Of HTTP; 0: no response."""
    message: str = ""
    """The error, as its sender reads it."""

    @property
    def failed(self) -> bool:
        """Whether there was no whole answer."""
        return self.status != httpx.codes.OK


@dataclass(slots=True)
class Load:
    """All chats so far."""

    chats: list[Chat] = field(default_factory=list)

    @property
    def failed(self) -> list[Chat]:
        """Those without an answer, in the order of their begin."""
        return sorted((chat for chat in self.chats if chat.failed), key=lambda chat: chat.begun)

    @property
    def messages(self) -> list[str]:
        """What the senders of the failed ones read, each text once."""
        return list(dict.fromkeys(chat.message for chat in self.failed))


@contextmanager
def under_load(url: str, key: str, model: str, *, clients: int = 2) -> Iterator[Load]:
    """Chat with `model` while inside; on leaving, the chats that run are waited for."""
    load, over, began = Load(), threading.Event(), time.monotonic()

    def chat(client: httpx.Client, text: str) -> Chat:
        begun = time.monotonic()
        status, message = 0, ""
        try:
            body = {"model": model, "messages": [{"role": "user", "content": text}], **BODY}
            response = client.post("/v1/chat/completions", json=body)
            status = response.status_code
            if status != httpx.codes.OK:
                message = response.json()["error"]["message"]
        except httpx.HTTPError as error:
            message = f"{type(error).__name__}: {error}"
        return Chat(begun - began, time.monotonic() - begun, status, message)

    def run(number: int) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
            count = 0
            while not over.is_set():
                load.chats.append(chat(client, f"Say the number {number * 100_000 + count}."))
                count += 1
                over.wait(PAUSE_S)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join(TIMEOUT_S + PAUSE_S)
