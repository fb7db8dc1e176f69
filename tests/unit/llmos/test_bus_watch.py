"""When the launcher restarts nats-server."""

from llmos.embedded.bus_watch import PAUSE_S, PROBE_S, REFUSED, BusFaults
from shared.deadlines import BUS_HANG_S


def test_a_server_whose_disk_was_full_is_restarted_once_there_is_room() -> None:
    faults = BusFaults()
    assert faults.why_restart(0.0, writable=True) is None
    faults.takes_nothing()
    assert faults.why_restart(1.0, writable=False) is None
    assert faults.why_restart(1.0, writable=True) == "the disk took nothing for a while, and does again"
    faults.restarted(1.0)
    assert faults.why_restart(1.0 + PAUSE_S, writable=True) is None


def test_a_server_that_refuses_to_write_is_restarted_and_one_that_refused_once_is_not() -> None:
    faults = BusFaults()
    for _ in range(5):
        for _ in range(REFUSED - 1):
            faults.refused()
            assert faults.suspected
            assert faults.why_restart(0.0, writable=True) is None
        faults.responded()
        assert not faults.suspected
    for _ in range(REFUSED):
        faults.refused()
    assert faults.why_restart(0.0, writable=True) == "it refuses to write, and the disk has room"


def test_a_server_that_responds_to_nothing_is_restarted() -> None:
    faults = BusFaults()
    for _ in range(int(BUS_HANG_S / PROBE_S) - 1):
        faults.unanswered()
        assert faults.why_restart(0.0, writable=True) is None
    faults.unanswered()
    assert faults.why_restart(0.0, writable=True) == "it did not respond for 10 s"


def test_what_a_restart_does_not_mend_is_tried_again_after_a_pause() -> None:
    faults = BusFaults()
    faults.restarted(100.0)
    for _ in range(REFUSED):
        faults.refused()
    assert faults.why_restart(100.0 + PAUSE_S - 1, writable=True) is None
    assert faults.why_restart(100.0 + PAUSE_S, writable=True) is not None
