"""`llmos events`, `llmos audit`: who changed what, and whether the record of it is whole."""

from typing import Annotated

import orjson
import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption, duration_option
from llmos.cli.output import print_json, print_table, say
from llmos.config import Target
from llmos.home import Home, write_private
from shared.contracts.events import AuditReport, Event

audit = typer.Typer(no_args_is_help=True, help="The record of changes: whether it is whole.")

_Time = Annotated[
    float | None, typer.Option(parser=duration_option, metavar="TIME", help="Not older than 2h, 30m or 7d.")
]


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.command(
        epilog="Examples: llmos events --since 2h · llmos events -f · llmos events --kind deployment --by KEY"
    )(events)
    root.add_typer(audit, name="audit")


def events(  # typer's form of a command
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens.")] = False,
    since: _Time = None,
    by: Annotated[str | None, typer.Option(help="For whom: an API key's id, a user, a job.")] = None,
    service: Annotated[str | None, typer.Option(help="Whose: scheduler, registry, keys, logins, …")] = None,
    kind: Annotated[str | None, typer.Option(help="deployment.changed, or all of a deployment.")] = None,
    name: Annotated[str | None, typer.Option(help="Of what was changed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Who changed what: deployments, versions, aliases, datasets, jobs, keys, files; newest first, with -f last."""
    filters = {"since": since, "by": by, "service": service, "kind": kind, "name": name, "limit": limit}
    with Target.resolve(home, url, api_key).client() as client:
        if follow:
            for event in client.follow_events(**filters):
                say(orjson.dumps(event.model_dump(mode="json")).decode() if json else "  ".join(_row(event)))
            return
        found = client.events(**filters).events
    if json:
        print_json([event.model_dump(mode="json") for event in found])
        return
    print_table(("AT", "WHAT", "NAME", "BY", "DETAIL"), [_row(event) for event in found], empty="No events.")


@audit.command()
def verify(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """Check that no event is missing or altered. Exit code 1 if one is.

    What was found last is kept in the home, so a chain that was written anew is noticed too.
    """
    target = Target.resolve(home, url, api_key)
    with target.client() as client:
        known = _known(target.home).get(client.url, {})
        report = client.verify_events(known)
        if report.sound:
            _keep(target.home, client.url, report)
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        _print(report)
    if not report.sound:
        raise typer.Exit(1)


def _print(report: AuditReport) -> None:
    rows = [
        (chain.chain, chain.events, f"{chain.first} to {chain.last}" if chain.last else "", chain.digest[:12])
        for chain in report.chains
        if chain.events or chain.findings
    ]
    print_table(("CHAIN", "EVENTS", "NUMBERS", "DIGEST"), rows, empty="No events yet.")
    for chain in report.chains:
        for finding in chain.findings:
            say(f"{chain.chain}: {finding}", style="bold red")
    if report.sound:
        say("no event is missing or altered")


def _row(event: Event) -> tuple[str, str, str, str, str]:
    detail = " ".join(f"{key}={value}" for key, value in event.detail.items())
    by = event.by or event.actor
    return f"{event.at:%Y-%m-%d %H:%M:%S}", event.kind, event.name, by, detail


def _known(home: Home) -> dict[str, dict[str, tuple[int, str]]]:
    try:
        found: dict[str, dict[str, tuple[int, str]]] = orjson.loads(home.audit_heads.read_bytes())
    except FileNotFoundError:
        return {}
    return found


def _keep(home: Home, url: str, report: AuditReport) -> None:
    heads = {chain.chain: (chain.last, chain.digest) for chain in report.chains if chain.last}
    home.root.mkdir(parents=True, exist_ok=True)
    write_private(home.audit_heads, orjson.dumps({**_known(home), url: heads}).decode() + "\n")
