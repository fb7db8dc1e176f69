"""`llmos deploy`, `undeploy`, `deployments`."""

from typing import Annotated, Any

import typer

from llmos.cli.contract_options import contract_of, with_options_of
from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, print_table, say, size, status
from llmos.client import wait_ready, why_not_ready
from llmos.config import Target
from shared.contracts.scheduler import MAX_REPLICAS, Deploy, DeploymentStatus
from shared.contracts.serving import ServingOptions

DEPLOY_TIMEOUT_S = 120.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: llmos deploy smollm2 · llmos deploy smollm2@prod --name chat --max-len 2048")(
        deploy
    )
    app.command(epilog="Example: llmos undeploy chat")(undeploy)
    app.command()(deployments)


@with_options_of(ServingOptions)
def deploy(
    reference: Annotated[str, typer.Argument(metavar="REF", help="name, name:3 or name@alias.")],
    name: Annotated[
        str | None, typer.Option(help="Public name. \\[default: the model's]", show_default=False)
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, max=MAX_REPLICAS, help="Processes that serve it.")] = 1,
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it answers.")] = True,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
    **options: Any,
) -> None:
    """Run a version under a public name, or change what runs there."""
    request = contract_of(Deploy, reference=reference, name=name, replicas=replicas, **options)
    with Target.resolve(home, url, api_key).client() as client:
        result = client.deploy(request)
        if wait:
            with status(f"starting {result.deployment.name}") as show:
                for newest in wait_ready(client, result.deployment.name, DEPLOY_TIMEOUT_S):
                    show(f"{newest.deployment.name}: {why_not_ready(newest)}")
                    result = newest
    if json:
        print_json(result)
    else:
        shown = result.deployment
        say(f"{shown.name}: {shown.model}:{shown.version}, {result.ready} of {shown.replicas} ready")


def undeploy(
    name: Annotated[str, typer.Argument(help="Public name.")],
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Stop serving a name. Its replicas finish what they have."""
    with Target.resolve(home, url, api_key).client() as client:
        client.undeploy(name)
    say(f"{name} undeployed")


def deployments(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """What should run and what does."""
    with Target.resolve(home, url, api_key).client() as client:
        listed = client.deployments().deployments
    if json:
        print_json([item.model_dump(mode="json") for item in listed])
        return
    rows = [
        (
            item.deployment.name,
            f"{item.deployment.model}:{item.deployment.version}",
            f"{item.ready}/{item.deployment.replicas}",
            item.deployment.options.max_len,
            _memory(item),
            "" if item.ready == item.deployment.replicas else why_not_ready(item),
        )
        for item in listed
    ]
    print_table(
        ("NAME", "VERSION", "READY", "MAX LEN", "MEMORY", "WHY NOT"),
        rows,
        empty="Nothing is deployed. Try: llmos deploy MODEL",
    )


def _memory(item: DeploymentStatus) -> str:
    """`310.2 MiB of 3.2 GiB`: what the fullest replica has resident, and what each was granted; with its GPU part."""
    deployment = item.deployment
    replicas = item.replicas
    on_gpu = deployment.gpu_resources if any(replica.device == "cuda" for replica in replicas) else None
    granted = on_gpu or deployment.resources
    used = max((replica.memory for replica in replicas), default=0)
    text = f"{size(used)} of {size(granted.memory)}" if used else size(granted.memory)
    return f"{text}, {size(granted.gpu_memory)} of a GPU" if on_gpu else text
