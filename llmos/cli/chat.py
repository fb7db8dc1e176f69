"""`llmos chat` and `llmos complete`: talk to a model in the terminal."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import typer

from llmos.cli.options import HomeOption, KeyOption, UrlOption
from llmos.cli.output import console, errors
from llmos.client import ChatDelta, Client
from llmos.config import Target
from shared.errors import NotFound


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: llmos chat · llmos chat smollm2 -m 'Why is the sky blue?' · echo Hi | llmos chat")(
        chat
    )
    app.command(epilog="Example: llmos complete smollm2 'Once upon a time' --max-tokens 64")(complete)


def chat(
    name: Annotated[
        str | None, typer.Argument(help="Deployment. [default: the only one]", show_default=False)
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Ask one thing and leave.", show_default=False)
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.7,
    max_tokens: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Chat, streaming. An empty line or Ctrl-D ends it."""
    sampling = {"temperature": temperature} | ({"max_tokens": max_tokens} if max_tokens else {})
    with Target.resolve(home, url, api_key).client() as client:
        model = name or _only_deployment(client)
        messages = [{"role": "system", "content": system}] if system else []
        for said in [message] if message is not None else _lines():
            messages.append({"role": "user", "content": said})
            printed = print_stream(client.chat(model, messages, **sampling))
            messages.append({"role": "assistant", "content": printed.text})


def complete(
    name: Annotated[str, typer.Argument(help="Deployment.")],
    text: Annotated[str, typer.Argument(help="The text to go on with.")],
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1)] = 128,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Continue a text, streaming."""
    with Target.resolve(home, url, api_key).client() as client:
        print_stream(client.complete(name, text, temperature=temperature, max_tokens=max_tokens))


@dataclass(frozen=True, slots=True)
class PrintedText:
    """Generated text that was printed."""

    text: str
    trace_id: str


def print_stream(deltas: Iterator[ChatDelta]) -> PrintedText:
    """Print a stream as it arrives, then its speed."""
    parts: list[str] = []
    start, first, usage, trace_id = time.perf_counter(), None, None, ""
    for delta in deltas:
        if delta.text and first is None:
            first = time.perf_counter()
        print(delta.text, end="", flush=True)
        parts.append(delta.text)
        usage, trace_id = delta.usage or usage, delta.trace_id
    print()
    errors.print(f"[dim]{speed(start, first, time.perf_counter(), usage)} · trace {trace_id}[/dim]", soft_wrap=True)
    return PrintedText("".join(parts), trace_id)


def speed(start: float, first: float | None, end: float, usage: dict[str, int] | None) -> str:
    """`8 tokens · 61.2 tokens/s · first after 0.12 s`."""
    if usage is None or first is None:
        return "no tokens"
    tokens = usage["completion_tokens"]
    rate = f" · {(tokens - 1) / (end - first):.1f} tokens/s" if tokens > 1 else ""
    return f"{tokens} tokens{rate} · first after {first - start:.2f} s"


def _lines() -> Iterator[str]:
    interactive = sys.stdin.isatty()
    while True:
        try:
            line = console.input("[bold cyan]> [/]") if interactive else input()
        except EOFError:
            return
        if not line.strip():
            return
        yield line


def _only_deployment(client: Client) -> str:
    names = [status.deployment.name for status in client.deployments().deployments]
    if len(names) != 1:
        what = f"there are {', '.join(names)}: name one" if names else "nothing is deployed; try 'llmos deploy MODEL'"
        raise NotFound(f"which model? {what}", param="name")
    return names[0]
