"""What the bus could not write is not there later, and the bus writes again only after its restart."""

from pathlib import Path

import pytest

from benchmarks.faults.faults import fill
from benchmarks.faults.system import small_disk
from shared.bus.connect import connect
from shared.bus.port import KeyValue
from shared.errors import LlmosError
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer

BUCKET = "LLMOS_DEPLOYMENTS"


@pytest.fixture
def disk(tmp_path: Path):
    try:
        with small_disk(tmp_path / "disk", 64 << 20) as disk:
            yield disk
    except PermissionError as error:
        pytest.skip(f"A FULL DISK OF THE BUS IS NOT TESTED HERE: {error}")


async def keys(kv: KeyValue) -> set[str]:
    """What is there; empty: nothing, or the server can't be reached."""
    try:
        return {entry.key for entry in await kv.entries()}
    except LlmosError:
        return set()


async def test_a_record_that_the_full_disk_did_not_take_is_not_there_after_the_restart(disk: Path) -> None:
    filler = disk / "filler"
    with NatsServer(disk / "nats", config="# the streams of LLMOS would not fit") as server:
        bus = await connect(server.url, name="test", owner=True)
        kv = bus.kv(BUCKET)
        await kv.put("before", b"1")
        with filler.open("wb", buffering=0) as file:
            fill(file.fileno())
            refused = []
            for number in range(3):
                try:
                    await kv.put(f"key{number}", bytes(65536))
                except LlmosError:
                    refused.append(number)
        assert refused, "the server says nothing, so it takes a while each"
        filler.unlink()
        server.kill()
        server.start()
        there = await eventually(lambda: keys(kv), 30)
        assert "before" in there
        assert there.isdisjoint(f"key{number}" for number in refused)
        assert len(there) == 1 + 3 - len(refused), "what was confirmed is there"
        await kv.put("after", b"1")
        await bus.drain()
