"""The stream of each dialect is the recorded one, event by event, and the dialect's own package reads the recording.

One answer with thoughts, text and a call, in all dialects. Ids are numbered in the order in which they come, and
times are set. After a change that is meant, `LLMOS_RECORD_STREAMS=1` writes the recordings: look at their difference.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest

from shared.contracts.gateway import FinishReason, GeneratedToolCall
from tests.integration.gateway.conftest import MODEL, Stand
from tests.support.fakes.spoken_frames import spoken

RECORDED = Path(__file__).parents[2] / "support" / "recorded" / "streams"
CALL = GeneratedToolCall(index=0, id="call_1f", name="weather", arguments='{"city": "Paris"}')
SAID = spoken(
    "<think>", "Let me ", "see.", "</think>", "\n\nIt is", " warm.", calls=(CALL,), reason=FinishReason.TOOL_CALLS
)
HELLO = [{"role": "user", "content": "Weather?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "weather", "description": "d", "parameters": SCHEMA}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": HELLO, "tools": CHAT_TOOLS, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "responses": (
        "/v1/responses",
        {"input": "Weather?", "tools": [{"type": "function", **FUNCTION}], "stream": True},
    ),
    "messages": (
        "/v1/messages",
        {
            "messages": HELLO,
            "max_tokens": 20,
            "tools": [{"name": "weather", "description": "d", "input_schema": SCHEMA}],
            "stream": True,
        },
    ),
    "ollama_chat": ("/api/chat", {"messages": HELLO, "tools": CHAT_TOOLS}),
    "ollama_generate": ("/api/generate", {"prompt": "Weather?"}),
}
_ID = re.compile(r"\b(?:chatcmpl-|resp_|msg_|rs_|fc_)[0-9a-f]{8,}\b")
_TIMES = (
    (re.compile(r'"(created|created_at|completed_at|total_duration)":\d+'), r'"\1":1800000000'),
    (re.compile(r'"created_at":"[^"]+"'), '"created_at":"2026-11-30T12:00:00Z"'),
)


def settled(stream: str) -> str:
    """A stream with the ids and times that every run has."""
    ids: dict[str, str] = {}
    for given in _ID.findall(stream):
        ids.setdefault(given, f"{re.split('[-_]', given)[0]}_{len(ids) + 1:048x}")
    stream = _ID.sub(lambda found: ids[found[0]], stream)
    for pattern, instead in _TIMES:
        stream = pattern.sub(instead, stream)
    return stream


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_stream_is_the_recorded_one(stand: Stand, name: str) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.thinking, replica.said = "may", SAID
    path, body = REQUESTS[name]
    answer = await stand.client.post(path, json={"model": MODEL, **body})
    assert answer.status_code == 200, answer.text
    file = RECORDED / f"{name}.txt"
    if os.environ.get("LLMOS_RECORD_STREAMS"):
        file.write_text(settled(answer.text), encoding="utf-8")
    assert settled(answer.text) == file.read_text(encoding="utf-8")


@contextmanager
def replayed(name: str) -> Iterator[str]:
    """The URL of a server that answers with the recording, whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            kind = "application/x-ndjson" if name.startswith("ollama") else "text/event-stream"
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write((RECORDED / f"{name}.txt").read_bytes())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def chat(url: str) -> tuple[str, str, Any]:
    with (
        openai.OpenAI(base_url=url, api_key="none") as client,
        client.chat.completions.stream(model=MODEL, messages=HELLO) as stream,  # type: ignore[arg-type]
    ):
        choice = stream.get_final_completion().choices[0]
    (call,) = choice.message.tool_calls or ()
    return "", choice.message.content or "", (call.function.name, json.loads(call.function.arguments))


def responses(url: str) -> tuple[str, str, Any]:
    with (
        openai.OpenAI(base_url=url, api_key="none") as client,
        client.responses.stream(model=MODEL, input="Weather?") as stream,
    ):
        output: list[Any] = list(stream.get_final_response().output)
    thoughts, message, call = output
    return thoughts.content[0].text, message.content[0].text, (call.name, json.loads(call.arguments))


def messages(url: str) -> tuple[str, str, Any]:
    with (
        anthropic.Anthropic(base_url=url, api_key="none") as client,
        client.messages.stream(model=MODEL, max_tokens=20, messages=HELLO) as stream,  # type: ignore[arg-type]
    ):
        blocks: list[Any] = list(stream.get_final_message().content)
    thoughts, text, call = blocks
    return thoughts.thinking, text.text, (call.name, call.input)


def ollama_chat(url: str) -> tuple[str, str, Any]:
    with ollama.Client(url) as client:
        found = [part.message for part in client.chat(MODEL, HELLO, stream=True)]
    (call,) = [call.function for each in found for call in each.tool_calls or ()]
    thought = "".join(each.thinking or "" for each in found)
    return thought, "".join(each.content or "" for each in found), (call.name, call.arguments)


def ollama_generate(url: str) -> tuple[str, str, Any]:
    with ollama.Client(url) as client:
        found = list(client.generate(MODEL, "Weather?", stream=True))
    assert found[-1].done
    return "".join(each.thinking or "" for each in found), "".join(each.response for each in found), None


CALLED = ("weather", {"city": "Paris"})


@pytest.mark.parametrize(
    ("read", "thoughts", "text", "call"),
    [
        (chat, "", "<think>Let me see.</think>\n\nIt is warm.", CALLED),
        (responses, "Let me see.", "It is warm.", CALLED),
        (messages, "Let me see.", "It is warm.", CALLED),
        (ollama_chat, "Let me see.", "It is warm.", CALLED),
        (ollama_generate, "Let me see.", "It is warm.", None),
    ],
)
def test_the_dialects_own_package_reads_the_recording(
    read: Callable[[str], tuple[str, str, Any]], thoughts: str, text: str, call: Any
) -> None:
    with replayed(read.__name__) as url:
        assert read(url) == (thoughts, text, call)
