"""Control state of a deployment without `llmos`, such as in containers: `python -m shared.state VERB`.

`LLMOS_NATS_URL` is the bus with the owner's password, `LLMOS_STORE_URL` (with `LLMOS_S3_ACCESS_KEY` and
`LLMOS_S3_SECRET_KEY`) the store. Exit code 0: done. 1: not done; the last line says why.
"""

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from shared.bus.access.provision import make_all, owner
from shared.bus.nats.bus import NatsBus
from shared.errors import InvalidInput, LlmosError
from shared.state.backup import write_backup
from shared.state.prepare import prepare
from shared.state.reading import summary
from shared.state.references import missing
from shared.state.restore import chosen, is_file, require_quiet, require_replaceable, restore_files, restore_state
from shared.state.snapshots import Snapshots
from shared.state.system import bus_record, examine, require_pairing
from shared.storage.open import open_store_with
from shared.storage.port import ArtifactStore

_COMMAND = "python -m shared.state restore"


def main() -> None:
    """Run a verb; exit."""
    try:
        asyncio.run(_run(_arguments().parse_args()))
    except LlmosError as error:
        sys.exit(f"error: {error.message}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shared.state", description="Control state of LLMOS as a whole.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare", help="make what services need, and refuse where control state is lost")
    verbs.add_parser("snapshots", help="list the snapshots in the store, newest first")
    backup = verbs.add_parser("backup", help="write everything into one file; services may run")
    backup.add_argument("file", type=Path)
    backup.add_argument("--without-weights", action="store_true", help="leave the files of versions out")
    restore = verbs.add_parser("restore", help="put a snapshot or a backup into the bus; services are stopped")
    restore.add_argument("source", nargs="?", help="a backup's file, or a snapshot's name; by default the newest")
    restore.add_argument("--replace", action="store_true", help="also where there is control state")
    restore.add_argument("--accept", action="store_true", help="go on with what is left")
    return parser


async def _run(arguments: argparse.Namespace) -> None:
    store_url = _variable("LLMOS_STORE_URL", "the store: file:///a/folder or s3://bucket?endpoint=http://host:9000")
    store = open_store_with(store_url, os.environ)
    if arguments.verb == "snapshots":
        for snapshot in await Snapshots(store).all():
            print(snapshot)  # noqa: T201  # the answer
        return
    async with owner(_variable("LLMOS_NATS_URL", "the bus as nats://owner:PASSWORD@host:4222")) as bus:
        if arguments.verb == "prepare":
            record = await prepare(bus, store, now=datetime.now(UTC), store_name=store_url, command=_COMMAND)
            _say(f"the bus is ready for {record.id}")
        elif arguments.verb == "backup":
            await _backup(bus, store, arguments.file, weights=not arguments.without_weights)
        else:
            await _restore(bus, store, arguments)


async def _backup(bus: NatsBus, store: ArtifactStore, file: Path, *, weights: bool) -> None:
    written = await write_backup(
        bus, store, await bus_record(bus), file, weights=weights, now=lambda: datetime.now(UTC)
    )
    for problem in written.problems:
        _say(f"not in the backup: {problem}")
    _say(f"{file}: {written.summary}, {written.blobs} files of versions, {written.size} bytes")
    if written.problems:
        sys.exit(1)


async def _restore(bus: NatsBus, store: ArtifactStore, arguments: argparse.Namespace) -> None:
    await make_all(bus)
    await require_quiet(bus)
    found = await examine(bus, store, datetime.now(UTC))
    if arguments.accept:
        state = found.state
    else:
        state = await chosen(arguments.source, store)
        require_replaceable(found, replace=arguments.replace)
    require_pairing({"what is restored": state.system or None, "the store": found.store_system})
    if is_file(arguments.source):
        await restore_files(Path(arguments.source), store)
    record = await restore_state(bus, store, state, now=datetime.now(UTC))
    for problem in await missing(state, store):
        _say(f"missing: {problem}")
    _say(f"{record.id} has {summary(state)} again; start the services")


def _variable(name: str, what: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise InvalidInput(f"{name} is not set: give {what}", param=name)
    return value


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  # a person reads it


if __name__ == "__main__":
    main()
