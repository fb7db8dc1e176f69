"""`llmos train`: rows become a version, as a job."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from llmos.cli.jobs import start
from llmos.cli.options import (
    DetachOption,
    HomeOption,
    KeyOption,
    PriorityOption,
    RetriesOption,
    ThreadsOption,
    UrlOption,
)
from llmos.cli.output import note, size, write_document
from llmos.config import Target
from llmos.training import METHODS, Training, changed, from_version, from_words
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
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Nodes that train together; the same as --set nodes=N.")
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
    threads: ThreadsOption = 0,
    priority: PriorityOption = 0,
    retries: RetriesOption = 2,
    detach: DetachOption = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Train a model, as a job on a node; the result becomes a version with its lineage."""
    target = Target.resolve(home, url, api_key)
    if not show:
        target.check()
    asked = _asked(target, what, versions or [], again)
    asked = replace(asked, name=name or asked.name, teacher=teacher or asked.teacher)
    short = {"scratch.size": size_, "job.nodes": nodes}
    given = [f"{key}={value}" for key, value in short.items() if value is not None]
    asked = changed(asked, [*given, *(changes or [])])
    if show:
        from devtools.jobs.train.plan import Plan  # noqa: PLC0415  # other commands start without it

        Plan.of(asked.recipe)
        write_document(asked.text())
        return
    start_training(target, asked, memory=memory, threads=threads, priority=priority, retries=retries, detach=detach)


def start_training(
    target: Target,
    asked: Training,
    *,
    memory: float | None,
    threads: int,
    priority: int,
    retries: int,
    detach: bool,
    search: Mapping[str, Any] | None = None,
) -> None:
    """Queue a training, or a search for the best one, and follow it; `memory` in GiB, None: as estimated."""
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


def _asked(target: Target, what: str | None, versions: list[str], again: str | None) -> Training:
    if again is not None:
        if what is not None:
            raise InvalidInput("--again REF takes its recipe and versions from REF; give nothing else", param="again")
        with target.client() as client:
            return from_version(client, again)
    if what is None:
        raise InvalidInput(f"what kind of training? Give {', '.join(METHODS)}, a recipe.toml, or --again REF")
    return from_words(what, versions)
