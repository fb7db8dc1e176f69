"""`llmos traces`: requests that were traced, found by what they were."""

from typing import Annotated

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption, duration_option
from llmos.cli.output import note, print_json, say
from llmos.config import Target
from shared.contracts.monitor import TraceList


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: llmos traces --status error --since 1h · llmos traces --model smollm2 --slower-than 2s"
    )(traces)


def traces(
    model: Annotated[str | None, typer.Option(help="Deployment that the request named.", show_default=False)] = None,
    status: Annotated[
        str | None, typer.Option(help="HTTP status (429), a class of them (5xx), or error.", show_default=False)
    ] = None,
    key: Annotated[str | None, typer.Option(help="Id of the API key.", show_default=False)] = None,
    slower_than: Annotated[
        float | None,
        typer.Option(
            parser=duration_option, metavar="TIME", help="It took at least 2s, 500ms or 1m.", show_default=False
        ),
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(
            parser=duration_option, metavar="TIME", help="It began at most 2h, 30m or 1d ago.", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Traces, newest first, of those that match all that is given; and how long traces are kept."""
    with Target.resolve(home, url, api_key).client() as client:
        listed = client.traces(limit, model=model, status=status, key=key, slower_than=slower_than, since=since)
    print_traces(listed, json=json)


def print_traces(listed: TraceList, *, json: bool) -> None:
    """A line for each, with the reason of a refusal below it, and how long traces are kept."""
    if json:
        print_json([item.model_dump(mode="json") for item in listed.traces])
        return
    for item in listed.traces:
        status = str(item.status or ("error" if item.error else "-"))
        asked = " ".join(part for part in (item.name, item.model, item.key) if part)
        say(f"{item.trace_id}  {item.started_at:%m-%d %H:%M:%S}  {status:>5}  {item.duration * 1000:.0f} ms  {asked}")
        if item.reason:
            say(f"  {item.reason}", style="dim")
    if not listed.traces:
        note("no such traces")
    if listed.max_age is not None and listed.max_spans is not None:
        note(f"traces are kept for {listed.max_age / 3600:g} h, and at most {listed.max_spans} spans in all")
