"""`llmos embed`: embeddings of texts in the terminal."""

from typing import Annotated

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, say
from llmos.cli.stdin import read_text
from llmos.config import Target
from shared.errors import InvalidInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Examples: llmos embed minilm 'a text' 'another' · llmos embed minilm --json < lines.txt")(
        embed
    )


def embed(
    name: Annotated[str, typer.Argument(help="Deployment.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; without any, the lines of standard input.", show_default=False)
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Return only the first numbers, this many.", show_default=False)
    ] = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """How alike texts are: the cosine of each pair. With --json, their embeddings."""
    given = texts or [line.rstrip("\r") for line in read_text().split("\n") if line.strip()]
    if not given:
        raise InvalidInput("no text given: name some, or send lines to standard input", param="texts")
    with Target.resolve(home, url, api_key).client() as client:
        vectors = client.embed(name, given, dimensions=dimensions)
    if json:
        print_json(vectors)
        return
    for text, vector in zip(given, vectors, strict=True):
        cosines = " ".join(f"{_cosine(vector, other):5.2f}" for other in vectors)
        say(f"{cosines}  {text[:80]}")


def _cosine(a: list[float], b: list[float]) -> float:
    lengths = (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0
