"""`llmos tune`: the recipe of a training whose model is best on held-out rows, as a job."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from llmos.cli.options import (
    DetachOption,
    HomeOption,
    KeyOption,
    PriorityOption,
    RetriesOption,
    ThreadsOption,
    UrlOption,
)
from llmos.cli.train import start_training
from llmos.config import Target
from llmos.training import changed, from_words
from shared.errors import InvalidInput

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
    threads: ThreadsOption = 0,
    priority: PriorityOption = 0,
    retries: RetriesOption = 2,
    detach: DetachOption = False,
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
    asked = from_words(what, versions or [])
    asked = changed(replace(asked, name=name or asked.name, teacher=teacher or asked.teacher), changes or [])
    start_training(
        target,
        asked,
        memory=memory,
        threads=threads,
        priority=priority,
        retries=retries,
        detach=detach,
        search=search,
    )
