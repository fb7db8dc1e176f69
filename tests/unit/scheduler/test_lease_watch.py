from services.scheduler.leadership import LeaseWatch
from shared.bus.port import KvEntry


def entry(revision: int) -> KvEntry:
    return KvEntry("scheduler", b"{}", revision)


def test_a_lease_that_does_not_exist_is_free():
    assert LeaseWatch(5.0).free(None, 100.0)


def test_a_lease_is_free_when_its_revision_stood_for_a_whole_ttl_since_it_was_seen():
    watch = LeaseWatch(5.0)
    assert not watch.free(entry(7), 100.0)
    assert not watch.free(entry(7), 104.9)
    assert watch.free(entry(7), 105.0)


def test_every_renewal_starts_the_wait_anew():
    watch = LeaseWatch(5.0)
    assert not any(watch.free(entry(revision), 100.0 + 4 * revision) for revision in range(10))


def test_a_lease_seen_again_after_it_was_gone_is_a_new_one():
    watch = LeaseWatch(5.0)
    watch.free(entry(7), 100.0)
    watch.free(None, 103.0)
    assert not watch.free(entry(7), 106.0)
