import pytest

from services.monitor.archive import Archive
from services.monitor.ingest import Ingest
from services.monitor.store import Limits
from shared.bus.port import Message
from shared.contracts.monitor import TRACES_SUBJECT
from shared.disk import Disk
from shared.errors import NotFound, StorageFull, Unavailable
from shared.service.readiness import Readiness
from tests.support.factories.otlp import make_payload, make_span

LIMITS = Limits(spans=1000, bytes=10_000_000, age=3600.0)


def traces(*spans):
    return Message(TRACES_SUBJECT, make_payload(spans))


def limit_pages(archive, pages):
    archive._store._database.execute(f"PRAGMA max_page_count = {pages}")


async def test_a_full_disk_makes_it_not_ready_and_the_message_is_stored_when_there_is_space_again(tmp_path):
    readiness = Readiness()
    async with Archive(tmp_path, LIMITS).running() as archive:
        ingest = Ingest(archive, None, readiness, Disk(None))
        await ingest.handle(traces(make_span(1, 1)))
        limit_pages(archive, 8)  # as on a disk without space
        message = traces(*(make_span(2, span, padding=2000) for span in range(1, 40)))
        with pytest.raises(StorageFull, match="free space or lower LLMOS_MONITOR_MAX_BYTES"):
            await ingest.handle(message)
        assert not readiness.ready
        archive._store.check_integrity()
        with pytest.raises(NotFound):
            await archive.trace(f"{2:032x}")  # nothing half-made

        limit_pages(archive, 10_000)
        await ingest.handle(message)  # as the bus delivers it again
        assert readiness.ready
        assert (await archive.trace(f"{2:032x}")).spans == 39
        assert (await archive.trace(f"{1:032x}")).spans == 1


async def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="set LLMOS_MONITOR_DIR to a writable folder"):
        async with Archive(tmp_path / "file", LIMITS).running():
            pass
