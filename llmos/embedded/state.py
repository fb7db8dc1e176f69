"""Control state of a home: looked at before services start, backed up, restored."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmos.embedded import nats
from llmos.embedded.ports import free_port
from llmos.home import Home
from shared.bus.access.provision import make_all, owner
from shared.bus.access.roles import Role
from shared.bus.nats.bus import NatsBus
from shared.contracts.state import FORMAT, ControlState, SystemRecord
from shared.errors import Conflict, DeadlineExceeded, NotFound, Unavailable
from shared.service.supervise import Child
from shared.state.backup import Backup, Progress, write_backup, write_state
from shared.state.prepare import prepare
from shared.state.reading import summary
from shared.state.references import missing
from shared.state.restore import chosen, is_file, require_replaceable, restore_files, restore_state
from shared.state.system import Findings, bus_record, examine, require_pairing, store_record
from shared.storage.open import open_store_with
from shared.storage.port import ArtifactStore


@contextmanager
def hold(home: Home) -> Iterator[None]:
    """Be the only process that uses the home's bus; raises `Conflict` if another one does."""
    try:
        with home.locked():
            yield
    except BlockingIOError as error:
        state, holder = home.system(), home.holder()
        where = f" at {state.url}" if state else ""
        which = f" (pid {holder.pid})" if holder else ""
        raise Conflict(
            f"LLMOS already runs from {home.root}{where}{which}; stop it with 'llmos down' or give another --home"
        ) from error


def store_of(home: Home, store_url: str | None) -> ArtifactStore:
    """The store at `store_url`, or that of the home; raises as `open_store`."""
    return open_store_with(store_url or home.store.as_uri(), os.environ)


async def prepare_home(home: Home, owner_url: str, store_url: str, note: Callable[[str], None]) -> None:
    """Make the bus ready for services, as `prepare`; control state of an earlier format is backed up in the home."""
    store = store_of(home, store_url)

    async def save(state: ControlState) -> None:
        path = home.backups / f"before-format-{FORMAT}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"
        await write_state(store, state, path, weights=False)
        note(f"control state of format {state.format} becomes format {FORMAT}; what it was is in {path}")

    async with owner(owner_url, leases_in_memory=True) as bus:
        record = home.record()
        prepared = await prepare(
            bus,
            store,
            now=datetime.now(UTC),
            store_name=store_url,
            home=(f"the home {home.root}", record.id if record else None),
            command=f"llmos restore --home {home.root}",
            save=save,
        )
    home.write_record(prepared)


async def backup(
    home: Home, store_url: str | None, path: Path, *, weights: bool, progress: Progress = lambda _: None
) -> Backup:
    """Write a backup of the home's system, whether it runs or not.

    Raises:
        Conflict: There is a file at `path`.
        NotFound: The home has no system.
        Unavailable: Control state is lost; or bus or store can't be reached.
    """
    running = home.system()
    if running is None and not (home.root / "nats").exists():
        raise NotFound(f"there is no system in {home.root}; give --home")
    store = store_of(home, store_url)
    async with AsyncExitStack() as stack:
        if running is not None:
            port = int(running.nats_url.rsplit(":", 1)[1])
            bus = await stack.enter_async_context(owner(_owner_url(home, port)))
        else:
            stack.enter_context(hold(home))
            bus = await stack.enter_async_context(bus_alone(home))
            if (problem := (await examine(bus, store, datetime.now(UTC))).problem) is not None:
                raise Unavailable(f"{problem}; a backup of it would hide that. 'llmos restore' first")
        record = await bus_record(bus)
        return await write_backup(
            bus, store, record, path, weights=weights, now=lambda: datetime.now(UTC), progress=progress
        )


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    record: SystemRecord
    summary: str
    taken_at: datetime
    aside: Path | None
    """Where the files of the former bus are."""
    problems: tuple[str, ...]
    """What control state needs and the store lacks."""


async def restore(home: Home, store_url: str | None, source: str | None, *, replace: bool, accept: bool) -> Restored:
    """Put a snapshot or a backup into the home's bus in place of what it holds, or go on with what is left.

    The files of the bus that was there are moved aside. A restore that fails moves them back.

    Args:
        home: No system runs from it.
        store_url: Its store; None: that of the home.
        source: A backup's file, or a snapshot's name; None: the newest snapshot.
        replace: Also in place of control state of which nothing is lost.
        accept: Instead of a source: what can be read of the bus.

    Raises:
        Conflict: A system runs; there is control state; or home, store and source do not belong to one system.
        NotFound: There is no such source.
        CorruptFile: The source is damaged.
        UnsupportedFormat: A newer LLMOS wrote the home, the store or the source.
    """
    home.make()
    with hold(home):
        known = home.record()
        store = store_of(home, store_url)
        found = await _look(home, store)
        if accept:
            if found is None:
                raise Unavailable(
                    f"nothing can be read of the bus in {_files(home)}; restore a snapshot or a backup instead"
                )
            state = found.state
        else:
            state = await chosen(source, store)
            if found is not None:
                require_replaceable(found, replace=replace)
        stored = await store_record(store)
        require_pairing(
            {
                f"the home {home.root}": known.id if known else None,
                "what is restored": state.system or None,
                "the store": stored.id if stored else None,
            }
        )
        if source is not None and is_file(source):
            await restore_files(Path(source), store)
        system = next((one.id for one in (known, stored) if one is not None), None)
        with _aside(home, keep=found is None or found.used) as aside:
            async with bus_alone(home) as bus:
                record = await restore_state(bus, store, state, now=datetime.now(UTC), system=system)
        home.write_record(record)
        return Restored(record, summary(state), state.taken_at, aside, tuple(await missing(state, store)))


@asynccontextmanager
async def bus_alone(home: Home) -> AsyncIterator[NatsBus]:
    """The home's bus with all its buckets and without services, as its owner; while the home is held.

    Raises:
        Unavailable: nats-server does not start.
    """
    port = free_port()
    server = Child(nats.child(home, port))
    try:
        await server.start()
        await nats.until_listening(server, port, home.logs / "nats-server.log")
        async with owner(_owner_url(home, port), leases_in_memory=True) as bus:
            await make_all(bus)
            yield bus
    finally:
        await server.stop()


async def _look(home: Home, store: ArtifactStore) -> Findings | None:
    """What the home's bus holds; None if it does not start or does not answer."""
    try:
        async with bus_alone(home) as bus:
            return await examine(bus, store, datetime.now(UTC))
    except (DeadlineExceeded, Unavailable):
        return None


@contextmanager
def _aside(home: Home, *, keep: bool) -> Iterator[Path | None]:
    """Without the bus's files while inside, and from then on; they are moved back if the block fails."""
    files = _files(home)
    aside = files.with_name(f"jetstream-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    if files.exists():
        files.rename(aside)
    try:
        yield aside if keep else None
    except BaseException:
        shutil.rmtree(files, ignore_errors=True)
        if aside.exists():
            aside.rename(files)
        raise
    if not keep:
        shutil.rmtree(aside, ignore_errors=True)


def _files(home: Home) -> Path:
    return home.nats / "jetstream"


def _owner_url(home: Home, port: int) -> str:
    return nats.user_url(port, Role.OWNER, home.bus_passwords(nats.USERS)[Role.OWNER])
