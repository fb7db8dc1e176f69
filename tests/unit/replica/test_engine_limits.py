from services.inference.replica.generate.replica import limits_for
from shared.contracts.serving import ReplicaOptions


def options(**changes: float) -> ReplicaOptions:
    return ReplicaOptions.EXAMPLE.model_copy(update=changes)


def test_the_prefix_cache_keeps_within_its_part_of_the_grant():
    limits = limits_for(options(prefix_cache=10 * 64 * 46080 + 5), kv_per_token=46080)
    assert limits.cache_blocks == 10
    assert limits_for(options(prefix_cache=0), kv_per_token=46080).cache_blocks == 0


def test_all_slots_and_a_chunk_fit_a_step_and_four_requests_wait_for_each_slot():
    limits = limits_for(options(slots=400), kv_per_token=46080)
    limits.check(slots=400)
    assert limits.max_waiting == 1600


def test_the_longest_wait_is_the_deployments_or_two_minutes():
    assert limits_for(options(max_wait=5.0), kv_per_token=46080).max_wait_s == 5.0
    assert limits_for(options(), kv_per_token=46080).max_wait_s == 120.0
