"""`llmos apply` and `diff`: deployments as a file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from llmos.cli.deployments import print_changes, wait_until_ready
from llmos.cli.options import HomeOption, KeyOption, UrlOption
from llmos.cli.output import note, say
from llmos.client import Client
from llmos.config import Target
from llmos.deployment_changes import changes
from llmos.deployment_files import read_deployments
from shared.contracts.scheduler import Deploy, Deployment

FileOption = Annotated[
    Path, typer.Option("--file", "-f", metavar="FILE", help="YAML, as `llmos deployments --yaml` prints it.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: llmos deployments --yaml > all.yaml · llmos apply -f all.yaml")(apply)
    app.command(epilog="Example: llmos diff -f deployments.yaml")(diff)


def apply(
    file: FileOption,
    *,
    prune: Annotated[bool, typer.Option("--prune", help="Undeploy what the file does not have.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when all answer.")] = True,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Make the deployments what a file says. All of it is checked before anything changes."""
    with Target.resolve(home, url, api_key).client() as client:
        requests, there = read_deployments(file), _deployments(client)
        _would_be(client, requests)
        for request in requests:
            result = client.deploy(request)
            print_changes(there.get(result.deployment.name), result.deployment)
        for name in _others(there, requests):
            if prune:
                client.undeploy(name)
                say(f"{name}: undeployed")
            else:
                note(f"{name}: not in {file}; --prune undeploys it")
        if wait:
            for request in requests:
                wait_until_ready(client, client.deployment(str(request.name)))


def diff(
    file: FileOption,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Show what `apply` would change. Exit code 1 if anything differs."""
    with Target.resolve(home, url, api_key).client() as client:
        requests, there = read_deployments(file), _deployments(client)
        differs = False
        for after in _would_be(client, requests):
            differs |= bool(changes(there.get(after.name), after))
            print_changes(there.get(after.name), after)
        for name in _others(there, requests):
            differs = True
            say(f"{name}: not in {file}")
    raise typer.Exit(int(differs))


def _deployments(client: Client) -> dict[str, Deployment]:
    return {item.deployment.name: item.deployment for item in client.deployments().deployments}


def _would_be(client: Client, requests: Iterable[Deploy]) -> list[Deployment]:
    """The deployments after these requests; raises what one of them would, and changes nothing."""
    return [client.deploy(request.model_copy(update={"dry_run": True})).deployment for request in requests]


def _others(there: Iterable[str], requests: Iterable[Deploy]) -> list[str]:
    return sorted(set(there) - {request.name for request in requests})
