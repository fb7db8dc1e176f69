"""The system under attack."""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from llmos.client import Client
from llmos.home import Home

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attack was answered."""

    answer: str
    """What a person reads: the status and the first words."""
    held: bool
    """Whether that is what should have come."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running system with one deployment and two tenants: one attacks, one is quiet."""

    home: Home
    url: str
    nats_url: str
    model: str
    attacker: str
    """An API key, as the next."""
    quiet: str
    admin: Client

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the gateway."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def connection(self) -> socket.socket:
        """A connection to the gateway, for bytes that no client library sends."""
        return socket.create_connection(self.address, timeout=TIMEOUT_S)

    def ask(self, path: str, body: dict[str, Any] | bytes, *, key: str | None = None) -> httpx.Response:
        """A POST of a tenant; the attacker's, if no key is given."""
        headers = {"Authorization": f"Bearer {key or self.attacker}", "Content-Type": "application/json"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
            return client.post(path, content=body) if isinstance(body, bytes) else client.post(path, json=body)

    def chat(self, content: str, *, key: str | None = None, **fields: Any) -> httpx.Response:
        """A chat of one message."""
        body = {"model": self.model, "messages": [{"role": "user", "content": content}], "max_tokens": 4}
        return self.ask("/v1/chat/completions", body | fields, key=key)

    def process(self, module: str) -> psutil.Process:
        """The process of a module, such as `services.gateway`, below `llmos up`."""
        state = self.home.system()
        if state is not None:
            for process in psutil.Process(state.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if module in process.cmdline():
                        return process
        raise LookupError(f"no process runs {module}")


Attack = Callable[[Target], Outcome]


def refusal(response: httpx.Response, *statuses: int) -> Outcome:
    """The outcome of a request that should be refused with one of these statuses."""
    message = response.text
    with suppress(ValueError, KeyError, TypeError):
        message = response.json()["error"]["message"]
    return Outcome(f"{response.status_code}: {message[:90]}", response.status_code in statuses)
