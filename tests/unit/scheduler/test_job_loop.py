"""What the loop writes of jobs, while requests write too."""

from services.scheduler.job_loop import JobWriter
from shared.audit.records import RecordChanges
from shared.audit.trail import Trail
from shared.bus.memory.bus import MemoryBus
from shared.bus.records import Records
from shared.contracts.events import CHAINS
from shared.contracts.job import JOBS_BUCKET, Desired, Job, JobState
from tests.support.factories.jobs import job_of
from tests.support.harness.wait import eventually


async def test_what_a_request_wrote_meanwhile_is_not_overwritten_and_nothing_deleted_returns():
    bus = MemoryBus()
    records = Records(bus.kv(JOBS_BUCKET), Job)
    changes = RecordChanges(JOBS_BUCKET, records, Trail(bus, CHAINS["scheduler"], actor="scheduler-1"))
    async with records.running():
        await eventually(lambda: records.synced)
        first, deleted = job_of("first"), job_of("deleted")
        for job in (first, deleted):
            await records.write(job.id, job)
        before = records.values
        paused = first.model_copy(update={"state": JobState.PAUSED, "desired": Desired.PAUSE})
        await records.write("first", paused)
        await records.delete("deleted")
        decided = {key: job.model_copy(update={"message": "waits: no room"}) for key, job in before.items()}
        assert await JobWriter(bus, changes).write(before, decided) == {"first": paused}
        assert records.values == {"first": paused}
    await bus.drain()
