"""A stall is said once: in the record, in the heartbeats, and in the log."""

from services.inference.replica.stall_watch import StallWatch
from shared.service.readiness import Readiness


class Record:
    def __init__(self):
        self.said = []

    async def report_stall(self, message):
        self.said.append(message)


async def test_a_stall_and_its_end_are_each_said_once():
    seconds, dumps, record, readiness = [0.0], [], Record(), Readiness()
    watch = StallWatch(lambda: seconds[0], record, readiness, dump=lambda: dumps.append("stacks"))
    await watch.check()
    assert (record.said, readiness.reasons) == ([], ())
    for seconds[0] in (5.5, 6.0, 6.5):
        await watch.check()
    assert record.said == ["its engine has work and made no step for 6 s"]
    assert readiness.reasons == ("engine: its engine has work and made no step for 6 s",)
    assert dumps == ["stacks"]
    seconds[0] = 0.0
    await watch.check()
    assert record.said[1:] == [None]
    assert readiness.ready
