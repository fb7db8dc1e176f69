"""What a bus has lost is found before services start, in whatever way its files were damaged, and is restored."""

import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.bus.access.provision import owner
from shared.bus.nats.bus import NatsBus
from shared.contracts.gateway import TENANTS_BUCKET
from shared.contracts.registry import MODELS_BUCKET
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET
from shared.contracts.state import FORMAT, SYSTEM_BUCKET, SYSTEM_KEY
from shared.errors import Conflict, Unavailable, UnsupportedFormat
from shared.state.prepare import prepare
from shared.state.reading import read_state
from shared.state.restore import chosen, require_quiet, restore_state
from shared.state.snapshots import Snapshots
from shared.state.system import examine
from shared.storage.layout import SYSTEM
from shared.storage.open import open_store
from shared.storage.port import ArtifactStore
from tests.support.nats.accounts import AccountsServer

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
RECORDS = {"one": b'{"text":"' + b"1" * 400 + b'"}', "two": b'{"text":"2"}', "three": b'{"text":"3"}'}


@pytest.fixture
def server(tmp_path: Path) -> AccountsServer:
    return AccountsServer(tmp_path / "nats")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return open_store((tmp_path / "store").as_uri())


@asynccontextmanager
async def running(server: AccountsServer) -> AsyncIterator[NatsBus]:
    with server:
        async with owner(server.owner_url) as bus:
            yield bus
        server.stop()


async def made(bus: NatsBus, store: ArtifactStore) -> dict[str, dict[str, bytes]]:
    """A system with records in three buckets and a snapshot of them; returns what all buckets hold."""
    record = await prepare(bus, store, now=NOW, store_name="S")
    for bucket in (MODELS_BUCKET, DEPLOYMENTS_BUCKET, TENANTS_BUCKET):
        for key, value in RECORDS.items():
            await bus.kv(bucket).put(key, value)
    await Snapshots(store).write(await read_state(bus, record, NOW))
    return await held(bus)


async def held(bus: NatsBus) -> dict[str, dict[str, bytes]]:
    state = await read_state(bus, None, NOW)
    return {name: {entry.key: entry.value for entry in await bus.kv(name).entries()} for name in state.buckets}


def stream(server: AccountsServer, bucket: str) -> Path:
    return server.folder / f"jetstream/owner/streams/KV_{bucket}"


def overwrite(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + 300] = random.Random(2).randbytes(300)[: len(data) - at]
    path.write_bytes(bytes(data))


def everything(server: AccountsServer) -> None:
    shutil.rmtree(server.folder / "jetstream")


def a_stream(server: AccountsServer) -> None:
    shutil.rmtree(stream(server, TENANTS_BUCKET))


def the_system(server: AccountsServer) -> None:
    shutil.rmtree(stream(server, SYSTEM_BUCKET))


def the_start_of_a_block(server: AccountsServer) -> None:
    overwrite(stream(server, DEPLOYMENTS_BUCKET) / "msgs/1.blk", 100)


def the_end_of_a_block(server: AccountsServer) -> None:
    block = stream(server, DEPLOYMENTS_BUCKET) / "msgs/1.blk"
    overwrite(block, block.stat().st_size - 120)


def a_block_without_its_index(server: AccountsServer) -> None:
    (stream(server, TENANTS_BUCKET) / "msgs/index.db").unlink()
    overwrite(stream(server, TENANTS_BUCKET) / "msgs/1.blk", 100)


def a_cut_block(server: AccountsServer) -> None:
    block = stream(server, MODELS_BUCKET) / "msgs/1.blk"
    block.write_bytes(block.read_bytes()[:-40])


DAMAGE = [
    everything,
    a_stream,
    the_system,
    the_start_of_a_block,
    the_end_of_a_block,
    a_block_without_its_index,
    a_cut_block,
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
async def test_damage_is_refused_again_and_again_until_it_is_restored(server, store, damage) -> None:
    async with running(server) as bus:
        before = await made(bus, store)
    damage(server)
    for _ in range(2):
        async with running(server) as bus:
            with pytest.raises(Unavailable, match=r"control state is (lost|damaged): .*'llmos restore' restores it"):
                await prepare(bus, store, now=NOW, store_name="S")
    async with running(server) as bus:
        await restore_state(bus, store, await chosen(None, store), now=NOW)
        assert await held(bus) == before
    async with running(server) as bus:
        await prepare(bus, store, now=NOW, store_name="S")
        assert await held(bus) == before


async def test_a_stream_whose_description_is_damaged_is_made_again_with_its_records(server, store) -> None:
    async with running(server) as bus:
        before = await made(bus, store)
    overwrite(stream(server, MODELS_BUCKET) / "meta.inf", 50)
    async with running(server) as bus:
        await prepare(bus, store, now=NOW, store_name="S")
        assert await held(bus) == before


async def test_deletions_and_changes_after_the_snapshot_are_no_loss(server, store) -> None:
    async with running(server) as bus:
        await made(bus, store)
        await bus.kv(TENANTS_BUCKET).delete("one")
        await bus.kv(MODELS_BUCKET).put("two", b"{}")
        server.kill()
    async with running(server) as bus:
        await prepare(bus, store, now=NOW, store_name="S")


async def test_a_restored_bus_is_not_compared_with_the_life_before(server, store) -> None:
    async with running(server) as bus:
        await made(bus, store)
        early = await read_state(bus, None, NOW)
        for number in range(50):
            await bus.kv(TENANTS_BUCKET).put("many", b"%d" % number)
        found = await examine(bus, store, NOW)
        await Snapshots(store).write(await read_state(bus, found.record, NOW))
    everything(server)
    async with running(server) as bus:
        with pytest.raises(Unavailable):
            await prepare(bus, store, now=NOW, store_name="S")
        await restore_state(bus, store, early, now=NOW, system=found.record.id)
        assert (await prepare(bus, store, now=NOW, store_name="S")).id == found.record.id


async def test_a_first_start_is_no_loss_and_is_repeated_without_a_change(server, store) -> None:
    async with running(server) as bus:
        first = await prepare(bus, store, now=NOW, store_name="S")
        assert await prepare(bus, store, now=NOW, store_name="S") == first


async def test_a_store_that_has_none_of_the_versions_is_refused(server, store, tmp_path) -> None:
    async with running(server) as bus:
        await made(bus, store)
        empty = open_store((tmp_path / "empty").as_uri())
        with pytest.raises(Conflict, match="the store S2 has none of the versions"):
            await prepare(bus, empty, now=NOW, store_name="S2")
        assert await empty.get_document(SYSTEM) is None


@pytest.mark.parametrize("where", ["bus", "store"])
async def test_a_later_format_is_refused(server, store, where) -> None:
    async with running(server) as bus:
        record = await prepare(bus, store, now=NOW, store_name="S")
        newer = record.model_copy(update={"format": FORMAT + 1, "llmos": "7.8.9"}).encode()
        if where == "bus":
            await bus.kv(SYSTEM_BUCKET).put(SYSTEM_KEY, newer)
        else:
            await store.put_document(SYSTEM, newer)
        with pytest.raises(
            UnsupportedFormat, match=rf"the {where} has format {FORMAT + 1}, written by LLMOS 7\.8\.9"
        ):
            await prepare(bus, store, now=NOW, store_name="S")


async def test_services_that_run_are_noticed(server, store) -> None:
    async with running(server) as bus:
        await prepare(bus, store, now=NOW, store_name="S")
        await require_quiet(bus)
        await bus.kv("LLMOS_LEASES").put("scheduler", b"{}")
        with pytest.raises(Conflict, match="stop them"):
            await require_quiet(bus)
