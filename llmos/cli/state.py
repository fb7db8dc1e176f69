"""`llmos backup` and `restore`: a whole system as one file, and back."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from llmos.cli.options import HomeOption, JsonOption
from llmos.cli.output import note, print_json, print_table, progress_bars, say, size
from llmos.config import Target
from shared.errors import CorruptFile, InvalidInput
from shared.state.reading import summary
from shared.state.snapshots import Snapshots
from shared.storage.port import ArtifactStore

StoreOption = Annotated[
    str | None,
    typer.Option(
        envvar="LLMOS_STORE_URL",
        help="Where model files live, as for 'llmos up'. \\[default: the home]",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Examples: llmos backup monday.tar · llmos backup --without-weights state.tar")(backup)
    app.command(epilog="Examples: llmos restore · llmos restore --list · llmos restore monday.tar --home /srv/new")(
        restore
    )


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.", show_default=False)],
    without_weights: Annotated[
        bool,
        typer.Option("--without-weights", help="Leave the files of versions out: restore it beside their store."),
    ] = False,
    store: StoreOption = None,
    home: HomeOption = None,
) -> None:
    """Write control state, manifests and model files into one file, while the system runs or not.

    API keys are in it as hashes. The admin key, the bus's passwords and config.toml are not.
    """
    from llmos.embedded import state  # noqa: PLC0415  # loads the bus; other commands start without it

    chosen = Target.resolve(home, None, None).home
    with progress_bars() as progress:
        written = asyncio.run(
            state.backup(
                chosen, store, file, weights=not without_weights, progress=lambda done: progress("copy", done)
            )
        )
    for problem in written.problems:
        note(f"not in the backup: {problem}")
    say(f"{file}: {written.summary}; {written.blobs} files of versions, {size(written.size)}")
    if written.problems:
        raise CorruptFile(f"{file} is whole but for what is named above")


def restore(
    source: Annotated[
        str | None,
        typer.Argument(help="A backup's file, or a snapshot. \\[default: the newest snapshot]", show_default=False),
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="Print the snapshots in the store and what they hold.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also in place of control state of which nothing is lost.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="No snapshot: go on with what is left of a bus that has lost something.")
    ] = False,
    store: StoreOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Put a snapshot or a backup into a home whose system is stopped.

    The files of the bus that was there are moved aside.
    """
    from llmos.embedded import state  # noqa: PLC0415  # as above

    chosen = Target.resolve(home, None, None).home
    if listed:
        asyncio.run(_list(state.store_of(chosen, store), as_json=json))
        return
    if accept and (source is not None or replace):
        raise InvalidInput("--accept takes neither a source nor --replace", param="accept")
    done = asyncio.run(state.restore(chosen, store, source, replace=replace, accept=accept))
    for problem in done.problems:
        note(f"missing: {problem}")
    if json:
        print_json({"system": done.record.id, "taken_at": done.taken_at.isoformat(), "problems": done.problems})
        return
    say(f"{done.record.id} has {done.summary}, as of {done.taken_at:%Y-%m-%d %H:%M:%S} UTC")
    if done.aside is not None:
        say(f"the former bus is in {done.aside}")
    say("start it with 'llmos up'")


async def _list(store: ArtifactStore, *, as_json: bool) -> None:
    snapshots = Snapshots(store)
    found = [(snapshot, await snapshots.read(snapshot)) for snapshot in await snapshots.all()]
    if as_json:
        print_json(
            [
                {
                    "name": str(snapshot),
                    "system": state.system,
                    "taken_at": state.taken_at.isoformat(),
                    "holds": summary(state),
                }
                for snapshot, state in found
            ]
        )
        return
    rows = [(snapshot, f"{state.taken_at:%Y-%m-%d %H:%M:%S}", summary(state)) for snapshot, state in found]
    print_table(("SNAPSHOT", "TAKEN (UTC)", "HOLDS"), rows, empty="No snapshots.")
