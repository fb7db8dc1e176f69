"""`llmos deploy`, `undeploy`, `deployments`."""

from enum import StrEnum
from typing import Annotated

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption, parse_size
from llmos.cli.output import console, errors, print_json, print_table, size
from llmos.client import wait_ready, why_not_ready
from llmos.config import Target
from shared.contracts.scheduler import DRAFT_TOKENS, MAX_DRAFT_TOKENS, Deploy, DeploymentStatus

DEPLOY_TIMEOUT_S = 120.0


class Device(StrEnum):
    """Of `--device`."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: llmos deploy smollm2 · llmos deploy smollm2@prod --name chat --max-len 2048")(
        deploy
    )
    app.command(epilog="Example: llmos undeploy chat")(undeploy)
    app.command()(deployments)


def deploy(
    reference: Annotated[str, typer.Argument(metavar="REF", help="name, name:3 or name@alias.")],
    name: Annotated[str | None, typer.Option(help="Public name. [default: the model's]", show_default=False)] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Processes that serve it.")] = 1,
    max_len: Annotated[
        int | None, typer.Option(min=1, help="Tokens of prompt and answer together.", show_default=False)
    ] = None,
    slots: Annotated[int, typer.Option(min=1, help="Sequences at once in one replica.")] = 16,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads of each replica's own; else it shares all.", show_default=False),
    ] = None,
    device: Annotated[
        Device, typer.Option(help="What to compute on; auto: a GPU if the version has a graph for CUDA.")
    ] = Device.AUTO,
    prefix_cache: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            parser=parse_size,
            help="Memory for earlier prompts in each replica, as 512MiB; 0: none. [default: a quarter of the slots']",
            show_default=False,
        ),
    ] = None,
    draft_tokens: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_DRAFT_TOKENS,
            help="Tokens computed ahead in a step where a text repeats itself; changes no answer. 0: none.",
        ),
    ] = DRAFT_TOKENS,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it answers.")] = True,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Run a version under a public name, or change what runs there."""
    request = Deploy(
        reference=reference,
        name=name,
        replicas=replicas,
        max_len=max_len,
        slots=slots,
        threads=threads,
        device=device.value,
        prefix_cache=prefix_cache,
        draft_tokens=draft_tokens,
    )
    with Target.resolve(home, url, api_key).client() as client:
        status = client.deploy(request)
        if wait:
            with errors.status(f"starting {status.deployment.name}") as line:
                for newest in wait_ready(client, status.deployment.name, DEPLOY_TIMEOUT_S):
                    line.update(f"{newest.deployment.name}: {why_not_ready(newest)}")
                    status = newest
    if json:
        print_json(status)
    else:
        shown = status.deployment
        console.print(f"{shown.name}: {shown.model}:{shown.version}, {status.ready} of {shown.replicas} ready")


def undeploy(
    name: Annotated[str, typer.Argument(help="Public name.")],
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Stop serving a name. Its replicas finish what they have."""
    with Target.resolve(home, url, api_key).client() as client:
        client.undeploy(name)
    console.print(f"{name} undeployed")


def deployments(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """What should run and what does."""
    with Target.resolve(home, url, api_key).client() as client:
        listed = client.deployments().deployments
    if json:
        print_json([status.model_dump(mode="json") for status in listed])
        return
    rows = [
        (
            status.deployment.name,
            f"{status.deployment.model}:{status.deployment.version}",
            f"{status.ready}/{status.deployment.replicas}",
            status.deployment.max_len,
            _memory(status),
            "" if status.ready == status.deployment.replicas else why_not_ready(status),
        )
        for status in listed
    ]
    print_table(
        ("NAME", "VERSION", "READY", "MAX LEN", "MEMORY", "WHY NOT"),
        rows,
        empty="Nothing is deployed. Try: llmos deploy MODEL",
    )


def _memory(status: DeploymentStatus) -> str:
    """`310.2 MiB of 3.2 GiB`: what the fullest replica has resident, and what each was granted; with its GPU part."""
    wanted = status.deployment
    replicas = status.replicas
    on_gpu = wanted.gpu_resources if any(replica.device == "cuda" for replica in replicas) else None
    granted = on_gpu or wanted.resources
    used = max((replica.memory for replica in replicas), default=0)
    text = f"{size(used)} of {size(granted.memory)}" if used else size(granted.memory)
    return f"{text}, {size(granted.gpu_memory)} of a GPU" if on_gpu else text
