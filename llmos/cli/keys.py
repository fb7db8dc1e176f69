"""`llmos key …`: API keys."""

import asyncio
from collections.abc import Iterator
from typing import Annotated

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption, duration_option
from llmos.cli.output import print_json, print_table, say
from llmos.config import Target
from shared.contracts.gateway import ApiKey, Scope

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke, events, recover.")


@app.command(epilog="Examples: llmos key create my-app --scope inference · llmos key create guest --expires 30d")
def create(
    name: Annotated[str, typer.Argument(help="Who it is for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="What it may do. \\[default: inference]", show_default=False)
    ] = None,
    expires: Annotated[
        float | None,
        typer.Option(
            parser=duration_option,
            metavar="TIME",
            help="Refuse it after 30d, 12h or 90m. \\[default: never]",
            show_default=False,
        ),
    ] = None,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Whether responses of its requests may be stored.")
    ] = True,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key. It is printed once and kept only as a hash."""
    with Target.resolve(home, url, api_key).client() as client:
        scopes = [str(s) for s in scope or [Scope.INFERENCE]]
        created = client.create_key(name, scopes, expires_in_s=expires, may_store=store)
    if json:
        print_json(created)
    else:
        say(created["key"])


@app.command("list")
def list_(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """All keys, without their secrets."""
    with Target.resolve(home, url, api_key).client() as client:
        keys = client.keys()
    if json:
        print_json([key.model_dump(mode="json", exclude={"hash"}) for key in keys])
        return
    rows = [
        (
            key.id,
            key.name,
            ", ".join(key.scopes),
            f"{key.created_at:%Y-%m-%d %H:%M}",
            f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never",
            ", ".join(_remarks(key)),
        )
        for key in keys
    ]
    print_table(("ID", "NAME", "SCOPES", "CREATED", "LAST USED", ""), rows, empty="No keys.")


def _remarks(key: ApiKey) -> Iterator[str]:
    if key.revoked:
        yield "revoked"
    elif key.expires_at:
        yield f"expires {key.expires_at:%Y-%m-%d %H:%M}"
    if not key.may_store:
        yield "stores nothing"


@app.command()
def events(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Who created and revoked keys, newest first."""
    with Target.resolve(home, url, api_key).client() as client:
        found = client.key_events(limit).events
    if json:
        print_json([event.model_dump(mode="json") for event in found])
        return
    rows = [
        (
            f"{event.at:%Y-%m-%d %H:%M:%S}",
            event.kind,
            event.name,
            event.detail.get("name", ""),
            event.by or event.actor,
        )
        for event in found
    ]
    print_table(("AT", "WHAT", "KEY", "NAME", "BY"), rows, empty="No events.")


@app.command()
def recover(home: HomeOption = None) -> None:
    """Make a new admin key for the system that runs here, where the home's own is lost, revoked or expired."""
    chosen = Target.resolve(home, None, None).home
    from llmos.embedded.key_recovery import recover as recover_key  # noqa: PLC0415  # loads the bus

    record = asyncio.run(recover_key(chosen))
    say(f"{record.id} is the new admin key, in {chosen.key_file}; `llmos key events` has the recovery")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as 'llmos key list' shows it.")],
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Refuse a key from now on."""
    with Target.resolve(home, url, api_key).client() as client:
        client.revoke_key(key_id)
    say(f"{key_id} revoked")
