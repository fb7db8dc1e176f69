"""`llmos tune`: the recipe of a training whose model is best on held-out rows, as a job."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmos.cli.jobs import start
from llmos.cli.options import HomeOption, KeyOption, UrlOption
from llmos.cli.output import note, size
from llmos.config import Target
from llmos.training import METHODS, Training, changed, from_file, from_method
from shared.errors import InvalidInput

_GIB = 1 << 30
_EPILOG = (
    "Examples: llmos tune recipe.toml --trials 16 --over lr=1e-4..1e-2 --over rank=4,8,16 ·"
    " llmos tune sft smollm2@prod support:2 --name helper --over lr=1e-4..1e-2"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=_EPILOG)(tune)


def tune(
    what: Annotated[
        str, typer.Argument(metavar="METHOD|RECIPE.toml", help="As for llmos train: a method, or a recipe.")
    ],
    versions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BASE] [DATASET]...", help="name, name:3 or name@alias; scratch takes no base."),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES", help="What is searched: lr=1e-4..1e-2, rank=4,8,16. Repeat it for several keys."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trainings that are begun; most of them stop early.")] = 16,
    reduction: Annotated[
        int, typer.Option(min=2, help="Of so many trainings that reach a validation, one goes on to the next.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the values that are tried.")] = 0,
    name: Annotated[str | None, typer.Option(help="What the best model becomes a version of.")] = None,
    teacher: Annotated[str | None, typer.Option(help="With distil: the version that is learnt from.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the recipe for all trials; may be repeated."
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(min=0.01, help="GiB that it may use. Estimated if not given.", show_default=False),
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
    """Search keys of a recipe for the lowest loss on held-out rows; the best model becomes a version."""
    from devtools.train.search.space import parse_over  # noqa: PLC0415  # other commands start without it

    target = Target.resolve(home, url, api_key)
    target.check()
    search: dict[str, Any] = {"trials": trials, "reduction": reduction, "seed": seed, "over": parse_over(over or [])}
    if not search["over"]:
        raise InvalidInput("what is searched? Give --over, for example --over lr=1e-4..1e-2", param="over")
    asked = _asked(what, versions or [])
    asked = Training(
        asked.recipe,
        name=name or asked.name,
        base=asked.base,
        teacher=teacher or asked.teacher,
        datasets=asked.datasets,
    )
    asked = changed(asked, changes or [])
    if not asked.name:
        raise InvalidInput("what shall the result be called? Give --name, for example --name helper", param="name")
    with target.client() as client:
        request = asked.request(
            client,
            memory=None if memory is None else int(memory * _GIB),
            threads=threads,
            priority=priority,
            retries=retries,
            search=search,
        )
    if memory is None:
        note(f"memory: {size(request.resources.memory)}, as estimated; --memory says otherwise", style="dim")
    start(request, detach=detach, target=target)


def _asked(what: str, versions: list[str]) -> Training:
    if what in METHODS:
        return from_method(what, versions)
    if not what.endswith(".toml"):
        raise InvalidInput(
            f"{what!r} is no kind of training: expected {', '.join(METHODS)}, or a file RECIPE.toml", param="method"
        )
    if versions:
        raise InvalidInput(f"{what} says which versions it takes; leave {versions[0]!r} out", param="datasets")
    return from_file(Path(what))
