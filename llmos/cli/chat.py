"""`llmos chat` and `llmos complete`: talk to a model in the terminal."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from llmos.cli.options import HomeOption, KeyOption, UrlOption
from llmos.cli.output import errors
from llmos.cli.stdin import is_terminal, read_text
from llmos.cli.stream import print_stream
from llmos.client import Client
from llmos.config import Target
from shared.errors import InvalidInput, NotFound


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Examples: llmos chat · llmos chat smollm2 'Why is the sky blue?' · llmos chat smollm2 < a.txt"
    )(chat)
    app.command(epilog="Example: llmos complete smollm2 'Once upon a time' --max-tokens 64")(complete)


def chat(
    name: Annotated[
        str | None, typer.Argument(help="Deployment. \\[default: the only one]", show_default=False)
    ] = None,
    text: Annotated[
        str | None,
        typer.Argument(
            help="Ask one thing and leave. Text on standard input is put before it, or asked alone.",
            show_default=False,
        ),
    ] = None,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", help="As TEXT, but standard input is not read.", show_default=False),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.7,
    max_tokens: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Chat, streaming. Without TEXT in a terminal: until an empty line or Ctrl-D."""
    sampling = {"temperature": temperature} | ({"max_tokens": max_tokens} if max_tokens else {})
    said = _said(text, message)
    with Target.resolve(home, url, api_key).client() as client:
        model = name or _only_deployment(client)
        messages = [{"role": "system", "content": system}] if system else []
        for content in _typed() if said is None else [said]:
            messages.append({"role": "user", "content": content})
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


def _said(text: str | None, message: str | None) -> str | None:
    """The one thing to ask; None: what a person types. Raises `InvalidInput` where there is nothing."""
    if text is not None and message is not None:
        raise InvalidInput("give either TEXT or --message", param="message")
    terminal = is_terminal()
    parts = [message] if message is not None else ["" if terminal else read_text(), text]
    said = "\n\n".join(part for part in parts if part and part.strip())
    if not said and (message is not None or text is not None or not terminal):
        raise InvalidInput("nothing to ask: the text is empty", param="text")
    return said or None


def _typed() -> Iterator[str]:
    while True:
        try:
            line = errors.input(Text("> ", style="bold cyan"))  # standard output is for answers
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise InvalidInput("what was typed is not text in the encoding of this terminal") from error
        if not line.strip():
            return
        yield line


def _only_deployment(client: Client) -> str:
    names = [status.deployment.name for status in client.deployments().deployments]
    if len(names) != 1:
        what = f"there are {', '.join(names)}: name one" if names else "nothing is deployed; try 'llmos deploy MODEL'"
        raise NotFound(f"which model? {what}", param="name")
    return names[0]
