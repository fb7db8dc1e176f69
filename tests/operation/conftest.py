"""Whole systems in an ordinary week."""

import asyncio
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from llmos.embedded.state import bus_alone, hold, store_of
from shared.contracts.state import SystemRecord
from shared.state.prepare import prepare
from tests.support.harness.embedded import Embedded
from tests.support.nats.server import free_port

HOMES = Path(__file__).parent / "homes"

AddHome = Callable[..., Embedded]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """One running system with the demo model, shared by tests that leave it as it was."""
    with Embedded(tmp_path_factory.mktemp("demo"), demo=True) as system:
        yield system


@pytest.fixture
def home_of(tmp_path: Path) -> AddHome:
    """Unpacks a home of an earlier format under `tmp_path`: `home_of("format-0", "name")`."""

    return lambda written_by, name="home": unpacked(written_by, tmp_path / name)


def unpacked(written_by: str, folder: Path) -> Embedded:
    """A home of an earlier format in `folder`, which is made; not started."""
    with tarfile.open(HOMES / f"{written_by}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    # Homes of one archive run beside one another: each takes a port of its own for its bus.
    ports = folder / "ports.json"
    ports.write_bytes(orjson.dumps(orjson.loads(ports.read_bytes()) | {"nats": free_port()}))
    return Embedded(folder, demo=False)


def without_services(system: Embedded) -> SystemRecord:
    """What a start does before its services: the home, its bus and its store are of one system then."""

    async def prepare_home() -> SystemRecord:
        with hold(system.home):
            async with bus_alone(system.home) as bus:
                record = system.home.record()
                known = record.id if record else None
                store = store_of(system.home, None)
                return await prepare(bus, store, now=datetime.now(UTC), store_name="S", home=("the home H", known))

    record = asyncio.run(prepare_home())
    system.home.write_record(record)
    return record
