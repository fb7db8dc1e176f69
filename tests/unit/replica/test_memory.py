import subprocess
import sys

import psutil
from structlog.testing import capture_logs

from services.inference.replica.memory import MemoryWatch, give_back, resident_bytes

MIB = 1 << 20


class FakeStatus:
    def __init__(self):
        self.reports: list[tuple[int, str]] = []

    async def report_memory(self, *, memory, message):
        self.reports.append((memory, message))


def watch(granted, *used, given_back=None):
    """A watch that measures `used` in turn, and the status that it writes."""
    status, measured = FakeStatus(), iter(used)
    given_back = [] if given_back is None else given_back
    made = MemoryWatch(
        granted, status, measure=lambda: next(measured), give_back=lambda: given_back.append("given back")
    )
    return made, status


async def test_within_the_grant_only_the_used_memory_is_reported():
    given_back = []
    made, status = watch(100 * MIB, 90 * MIB, given_back=given_back)
    await made.check()
    assert status.reports == [(90 * MIB, "")]
    assert not given_back


async def test_above_the_grant_it_gives_back_what_it_can_before_it_complains():
    given_back = []
    made, status = watch(100 * MIB, 110 * MIB, 95 * MIB, given_back=given_back)
    with capture_logs() as logs:
        await made.check()
    assert status.reports == [(95 * MIB, "")]
    assert given_back == ["given back"]
    assert not logs


async def test_use_above_the_grant_is_logged_once_and_reported_until_it_is_over():
    made, status = watch(100 * MIB, *[130 * MIB] * 4, 99 * MIB)
    with capture_logs() as logs:
        for _ in range(3):
            await made.check()
    assert [line["event"] for line in logs] == ["memory.above_grant", "memory.within_grant"]
    first, second, third = (message for _, message in status.reports)
    assert first.startswith("uses 130 MiB of memory, 30 MiB above its grant; it goes on")
    assert (second, third) == (first, "")


async def test_without_a_grant_nothing_is_too_much():
    made, status = watch(0, 1 << 50)
    await made.check()
    assert status.reports == [(1 << 50, "")]


def test_the_helpers_of_a_replica_count():
    alone = resident_bytes()
    helper = subprocess.Popen([sys.executable, "-c", "x = bytearray(60 << 20); print(1, flush=True); input()"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        helper.stdout.readline()
        assert resident_bytes() - alone > 50 * MIB
    finally:
        helper.communicate(b"\n")


def test_freed_memory_goes_back_to_the_system():
    blocks = [b"x" * 100_000 for _ in range(1000)]  # below the size that the C library maps by itself
    fence = b"y" * 100_000
    before = psutil.Process().memory_info().rss
    blocks.clear()
    give_back()
    assert before - psutil.Process().memory_info().rss > 50 * MIB
    assert fence
