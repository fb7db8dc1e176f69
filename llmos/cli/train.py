"""`llmos train`: rows become a version, as a job."""

from pathlib import Path
from typing import Annotated

import typer

from llmos.cli.jobs import start
from llmos.cli.options import HomeOption, KeyOption, UrlOption
from llmos.cli.output import note, size
from llmos.config import Target
from llmos.training import METHODS, Training, changed, from_file, from_method, from_version
from shared.errors import InvalidInput

_GIB = 1 << 30
_EPILOG = (
    "Examples: llmos train sft smollm2@prod support:2 --name helper --set lr=1e-3 · llmos train recipe.toml ·"
    " llmos train --again helper:1 --show"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=_EPILOG)(train)


def train(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[METHOD|RECIPE.toml]",
            help="sft (LoRA on answers), full (all weights), dpo (preferences), pretrain (texts, all weights),"
            " distil (from a teacher's probabilities), scratch (a new model from texts); or a recipe that says all.",
        ),
    ] = None,
    versions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BASE] [DATASET]...", help="name, name:3 or name@alias; scratch takes no base."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the result becomes a version of.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated. lr is the learning rate."
        ),
    ] = None,
    size_: Annotated[
        str | None, typer.Option("--size", help="Of a model from scratch: nano (1M), micro (4M), small (30M).")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="With distil: the version that is learnt from.")] = None,
    again: Annotated[
        str | None, typer.Option(metavar="REF", help="Run the training again that made this version.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe, and train nothing.")] = False,
    memory: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="GiB that it may use. Estimated from the base's size, the method and the tokens at once"
            " (compute.micro_tokens), if not given.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads reserved for it; 0: it shares those that are free.")
    ] = 0,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher runs first among jobs that wait.")] = 0,
    retries: Annotated[int, typer.Option(min=0, max=100, help="Times that it is started again after a failure.")] = 2,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and return.")] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Train a model, as a job on a node; the result becomes a version with its lineage."""
    target = Target.resolve(home, url, api_key)
    if not show:
        target.check()
    asked = _asked(target, what, versions or [], again)
    given = {"name": name, "teacher": teacher}
    asked = Training(
        asked.recipe,
        name=given["name"] or asked.name,
        base=asked.base,
        teacher=given["teacher"] or asked.teacher,
        datasets=asked.datasets,
    )
    asked = changed(asked, [*([f"scratch.size={size_}"] if size_ else []), *(changes or [])])
    if show:
        from devtools.jobs.train.plan import Plan  # noqa: PLC0415  # other commands start without it

        Plan.of(asked.recipe)
        print(asked.text(), end="")
        return
    if not asked.name:
        raise InvalidInput("what shall the result be called? Give --name, for example --name helper", param="name")
    with target.client() as client:
        request = asked.request(
            client,
            memory=None if memory is None else int(memory * _GIB),
            threads=threads,
            priority=priority,
            retries=retries,
        )
    if memory is None:
        note(f"memory: {size(request.resources.memory)}, as estimated; --memory says otherwise", style="dim")
    start(request, detach=detach, target=target)


def _asked(target: Target, what: str | None, versions: list[str], again: str | None) -> Training:
    if again is not None:
        if what is not None:
            raise InvalidInput("--again REF takes its recipe and versions from REF; give nothing else", param="again")
        with target.client() as client:
            return from_version(client, again)
    if what is None:
        raise InvalidInput(f"what kind of training? Give {', '.join(METHODS)}, a recipe.toml, or --again REF")
    if what in METHODS:
        return from_method(what, versions)
    if not what.endswith(".toml"):
        raise InvalidInput(
            f"{what!r} is no kind of training: expected {', '.join(METHODS)}, or a file RECIPE.toml", param="method"
        )
    if versions:
        raise InvalidInput(f"{what} says which versions it takes; leave {versions[0]!r} out", param="datasets")
    return from_file(Path(what))
