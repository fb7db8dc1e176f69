"""`llmos deploy`, `undeploy`, `deployments`."""

from typing import Annotated, Any

import typer

from llmos.cli.contract_options import contract_of, with_options_of
from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, print_table, say, size, status
from llmos.client import Client, wait_ready, why_not_ready
from llmos.config import Target
from llmos.deployment_changes import changes
from llmos.deployment_files import deployments_text
from shared.contracts.scheduler import MAX_REPLICAS, Deploy, Deployment, DeploymentStatus
from shared.contracts.serving import ServingOptions

DEPLOY_TIMEOUT_S = 120.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: llmos deploy smollm2 · llmos deploy smollm2@prod --name chat --max-len 2048")(
        deploy
    )
    app.command(epilog="Example: llmos rollback chat")(rollback)
    app.command(epilog="Example: llmos undeploy chat")(undeploy)
    app.command()(deployments)


@with_options_of(ServingOptions)
def deploy(
    reference: Annotated[str, typer.Argument(metavar="REF", help="name, name:3 or name@alias.")],
    name: Annotated[
        str | None, typer.Option(help="Public name. \\[default: the model's]", show_default=False)
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_REPLICAS,
            help="Processes that serve it; 0 pauses it. \\[default: as many as before, or 1]",
            show_default=False,
        ),
    ] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when all replicas answer.")] = True,
    reset: Annotated[bool, typer.Option("--reset", help="What is not named gets its default again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    if_revision: Annotated[
        int | None, typer.Option(min=0, help="Only if this is its revision now; 0: only if it is new.")
    ] = None,
    allow_unplaced: Annotated[
        bool, typer.Option("--allow-unplaced", help="Accept it even if no node has room for all replicas.")
    ] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
    **options: Any,
) -> None:
    """Run a version under a public name, or change what runs there. What is not named stays as it is."""
    request = contract_of(
        Deploy,
        reference=reference,
        name=name,
        replicas=replicas,
        reset=reset,
        if_revision=if_revision,
        dry_run=dry_run,
        allow_unplaced=allow_unplaced,
        **options,
    )
    with Target.resolve(home, url, api_key).client() as client:
        there = {item.deployment.name: item.deployment for item in client.deployments().deployments}
        result = client.deploy(request)
        if not json:
            print_changes(there.get(result.deployment.name), result.deployment)
            if result.note:
                say(f"  {result.note}")
        if wait and not dry_run:
            result = wait_until_ready(client, result)
    if json:
        print_json(result)
    elif not dry_run:
        shown = result.deployment
        say(f"{shown.name}: {shown.model}:{shown.version}, {result.ready} of {shown.replicas} ready")


def rollback(
    name: Annotated[str, typer.Argument(help="Public name.")],
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when all replicas answer.")] = True,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Bring back the revision before the last change, whole. A second rollback undoes the first."""
    with Target.resolve(home, url, api_key).client() as client:
        before = client.deployment(name).deployment
        result = client.rollback(name)
        print_changes(before, result.deployment)
        if wait:
            wait_until_ready(client, result)


def print_changes(before: Deployment | None, after: Deployment) -> None:
    """What a change changes; one line if nothing."""
    if before is None:
        say(f"{after.name}: new, {after.model}:{after.version}")
        return
    lines = changes(before, after)
    say(f"{after.name}: {'revision ' + str(after.revision) if lines else 'unchanged'}")
    for what, old, new in lines:
        say(f"  {what.replace('_', ' ')}: {_shown(what, old)} -> {_shown(what, new)}")


def _shown(what: str, value: object) -> str:
    """A value as a person reads it."""
    field = ServingOptions.model_fields.get(what)
    if isinstance(value, int) and field is not None and field.json_schema_extra == {"unit": "bytes"}:
        return size(value)
    return "-" if value is None else str(value)


def wait_until_ready(client: Client, result: DeploymentStatus) -> DeploymentStatus:
    """Show why it does not answer yet, until it does."""
    with status(f"starting {result.deployment.name}") as show:
        for newest in wait_ready(client, result.deployment.name, DEPLOY_TIMEOUT_S):
            show(f"{newest.deployment.name}: {why_not_ready(newest)}")
            result = newest
    return result


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
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    *,
    json: JsonOption = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the file that `llmos apply -f` takes.")] = False,
) -> None:
    """What should run and what does."""
    with Target.resolve(home, url, api_key).client() as client:
        listed = client.deployments().deployments
    if json:
        print_json([item.model_dump(mode="json") for item in listed])
        return
    if yaml:
        typer.echo(deployments_text(item.deployment for item in listed), nl=False)
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
