"""`llmos model verify`: read stored files and compare them with their digests."""

from dataclasses import asdict
from typing import Annotated

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import note, print_json, progress_bars, say, size
from llmos.config import Target
from llmos.verifying import Finding, files_of, verify
from shared.contracts.scrub import STORE
from shared.errors import InvalidInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog="Examples: llmos model verify smollm2@prod · llmos model verify --all")(verify_)


def verify_(
    reference: Annotated[
        str | None, typer.Argument(metavar="[REF]", help="name, name:3 or name@alias.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All versions of models, datasets and reports.")] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Read stored files and the copies on nodes, and compare them with their SHA-256s. Exit code 1 if one differs."""
    target = Target.resolve(home, url, api_key)
    target.check()
    if (reference is None) != everything:
        raise InvalidInput("give either a version (name, name:3 or name@alias) or --all", param="reference")
    with target.client() as client, progress_bars() as progress:
        done = verify(client, files_of(client, reference), progress)
    if json:
        print_json({**asdict(done), "findings": [asdict(one) for one in done.findings]})
    else:
        for one in done.findings:
            say(_line(one), style="bold red")
        nodes = f" and on {', '.join(done.nodes)}" if done.nodes else ""
        found = f"{len(done.findings)} not as they were made" if done.findings else "all as they were made"
        say(f"files: {done.files}, {size(done.bytes)} read in the store{nodes}; {found}")
    if done.findings:
        if any(one.place == STORE and one.state in ("damaged", "missing") for one in done.findings):
            note("import the model or data again: that replaces a damaged file in the store")
        if any(one.place != STORE and one.state == "damaged" for one in done.findings):
            note("a node fetches a damaged copy again when it loads it: deploy with --replicas 0, then as before")
        raise typer.Exit(1)


def _line(one: Finding) -> str:
    where = "in the store" if one.place == STORE else f"in the cache of node {one.place}"
    why = f": {one.reason}" if one.reason else ""
    return f"{one.version} {one.file}: {one.state} {where}{why} (sha256 {one.digest[:12]})"
