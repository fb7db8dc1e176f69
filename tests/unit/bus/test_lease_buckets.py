"""Which buckets are leases: those may lie in the server's memory, and be emptied."""

from shared.bus.access.stored import BUCKETS
from shared.bus.nats.kv import LONGEST_LEASE_S
from shared.contracts.response import RESPONSES_BUCKET, RUN_RENEW_S, RUN_TTL_S


def test_what_tenants_stored_is_no_lease() -> None:
    lives = {bucket.name: bucket.ttl for bucket in BUCKETS}
    assert {name for name, ttl in lives.items() if ttl is not None and ttl > LONGEST_LEASE_S} == {RESPONSES_BUCKET}


def test_a_run_is_renewed_often_within_its_time_to_live() -> None:
    assert 10 * RUN_RENEW_S < RUN_TTL_S <= LONGEST_LEASE_S
