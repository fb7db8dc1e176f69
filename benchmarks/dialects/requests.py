"""The same request in every dialect, and where its answers have the text."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.gateway_alone.replica import MODEL

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to ask."""

    name: str
    path: str
    body: Callable[[str, int], Json]
    """From the text that is said and the tokens of the answer, but for `model` and `stream`."""
    whole: Callable[[Json], str]
    """The text of an answer."""
    piece: Callable[[Json], str | None]
    """The text that an object of a stream adds."""

    def request(self, text: str, tokens: int, *, stream: bool) -> bytes:
        """The body."""
        return json.dumps({"model": MODEL, "stream": stream, **self.body(text, tokens)}).encode()

    def text(self, answer: bytes, *, stream: bool) -> str:
        """The whole text of an answer."""
        if not stream:
            return self.whole(json.loads(answer))
        return "".join(self.piece(each) or "" for each in _objects(answer))


def _objects(stream: bytes) -> Iterator[Json]:
    """Of server-sent events, or of lines."""
    for line in stream.splitlines():
        data = line.removeprefix(b"data: ")
        if data.startswith(b"{"):
            yield json.loads(data)


def _said(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]


def _chat_piece(event: Json) -> str | None:
    text: str | None = event["choices"][0]["delta"].get("content")
    return text


def _response_piece(event: Json) -> str | None:
    return str(event["delta"]) if event["type"] == "response.output_text.delta" else None


def _message_piece(event: Json) -> str | None:
    return str(event["delta"]["text"]) if event["type"] == "content_block_delta" else None


def _response(**more: object) -> Callable[[str, int], Json]:
    return lambda text, tokens: {"input": text, "max_output_tokens": tokens, **more}


def _response_text(answer: Json) -> str:
    return str(answer["output"][0]["content"][0]["text"])


CHAT = Dialect(
    "chat",
    "/v1/chat/completions",
    lambda text, tokens: {"messages": _said(text), "max_tokens": tokens},
    lambda answer: str(answer["choices"][0]["message"]["content"]),
    _chat_piece,
)
"""What the others are compared with."""
OTHERS = (
    Dialect("responses", "/v1/responses", _response(store=False), _response_text, _response_piece),
    Dialect("responses, stored", "/v1/responses", _response(), _response_text, _response_piece),
    Dialect(
        "messages",
        "/v1/messages",
        lambda text, tokens: {"messages": _said(text), "max_tokens": tokens},
        lambda answer: str(answer["content"][0]["text"]),
        _message_piece,
    ),
    Dialect(
        "ollama chat",
        "/api/chat",
        lambda text, tokens: {"messages": _said(text), "options": {"num_predict": tokens}},
        lambda answer: str(answer["message"]["content"]),
        lambda line: str(line["message"]["content"]),
    ),
    Dialect(
        "ollama generate",
        "/api/generate",
        lambda text, tokens: {"prompt": text, "options": {"num_predict": tokens}},
        lambda answer: str(answer["response"]),
        lambda line: str(line["response"]),
    ),
)
