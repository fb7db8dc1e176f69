import pytest

from services.inference.engine.batcher import Batcher
from shared.errors import Overloaded
from tests.support.factories.engines import sequence_request
from tests.unit.engine.policy.timed import TOKEN_S, Timed, batcher


def fill(b: Batcher, tenant: str = "", **options: int) -> int:
    """Admit until refused; how many were taken."""
    for count in range(1000):
        try:
            b.admit(sequence_request(f"{tenant}{count}", tenant=tenant, **options), 0.0)
        except Overloaded:
            return count
    raise AssertionError("the queue has no bound")


def test_a_tenant_alone_fills_half_of_the_queue():
    assert fill(batcher(slots=2, max_waiting=8), "a") == 2 + 4


def test_a_flood_leaves_space_for_others():
    b = batcher(slots=2, max_waiting=8)
    fill(b, "flood")
    assert fill(b, "b") == 2
    assert fill(b, "c") == 1
    b.check_integrity()


def test_space_in_tokens_is_shared_alike():
    b = batcher(slots=1, max_waiting=1000, max_queued_tokens=100)
    assert fill(b, "flood", prompt=[1] * 10) == 5
    assert fill(b, "b", prompt=[1] * 10) == 3
    b.admit(sequence_request("late", [1] * 40, tenant="late"), 0.0)  # one prompt of each tenant is always taken


def test_what_the_cache_will_give_counts_as_no_work():
    b = batcher(cache_blocks=8)
    timed = Timed(b)
    b.admit(sequence_request("first", range(40)), 0.0)
    timed.run()
    b.admit(sequence_request("again", range(40)), 0.0)
    assert b.queued_tokens == 8


def test_a_queue_that_lasts_too_long_is_full_and_says_when_to_come_back():
    b = batcher(slots=1, max_waiting=100, max_wait_s=2.0)
    timed = Timed(b)
    b.admit(sequence_request("measured", max_tokens=20), 0.0)
    timed.run()
    service_s = timed.now
    taken = fill(b, max_tokens=20)
    assert taken == pytest.approx(2.0 / service_s, abs=2)
    with pytest.raises(Overloaded, match="would wait about") as caught:
        b.admit(sequence_request("more", max_tokens=20), 0.0)
    assert caught.value.retry_after >= 1.0
    # It is honest: a request that comes back then is taken, and waits no longer than the bound.
    begun = timed.now
    while timed.now < begun + caught.value.retry_after:
        timed.step()
    asked = timed.now
    b.admit(sequence_request("more", max_tokens=20), timed.now)
    timed.run()
    assert timed.first["more"] - asked <= 2.0 + 2 * service_s


def test_the_expected_wait_is_what_a_request_then_waits():
    b = batcher(slots=2, max_waiting=100)
    timed = Timed(b)
    for index in range(4):
        b.admit(sequence_request(f"measured{index}", max_tokens=20), timed.now)
    timed.run()
    for index in range(9):
        b.admit(sequence_request(f"r{index}", max_tokens=20), timed.now)
    for _ in range(3):
        timed.step()
    asked, expected = timed.now, b.wait_s()
    b.admit(sequence_request("last", max_tokens=20), timed.now)
    timed.run()
    assert timed.first["last"] - asked == pytest.approx(expected, rel=0.35)


def test_a_long_prompt_ahead_is_no_reason_to_refuse_a_short_one():
    b = batcher(slots=4, max_wait_s=0.2)
    timed = Timed(b)
    b.admit(sequence_request("measured"), timed.now)
    timed.run()
    b.admit(sequence_request("long", [1] * 50, max_tokens=2), timed.now)
    timed.step()
    b.admit(sequence_request("short", max_tokens=2), timed.now)
    with pytest.raises(Overloaded, match="would wait"):
        b.admit(sequence_request("as long", [1] * 50, max_tokens=2), timed.now)
    asked = timed.now
    timed.run()
    assert timed.first["short"] - asked <= 0.2


def test_nothing_is_refused_for_time_before_anything_was_measured():
    assert batcher(max_wait_s=0.0).wait_s() == 0.0
    fill(batcher(max_wait_s=0.0))


def flooded_latencies(*, flood: bool, cache_blocks: int) -> tuple[list[float], list[float]]:
    """Of a tenant with one short request at a time: seconds to its first token, and to its end."""
    timed = Timed(batcher(slots=4, max_waiting=64, cache_blocks=cache_blocks))
    first, end = [], []
    for turn in range(8):
        for index in range(64 if flood else 0):
            try:
                request = sequence_request(f"f{turn}-{index}", [1] * 24, max_tokens=40, tenant="flood")
                timed.batcher.admit(request, timed.now)
            except Overloaded:
                break
        for _ in range(20 if flood else 0):
            timed.step()
        asked, name = timed.now, f"light{turn}"
        timed.batcher.admit(sequence_request(name, [1] * 8, max_tokens=8, tenant="light"), asked)
        while name not in timed.ended:
            timed.step()
        first.append(timed.first[name] - asked)
        end.append(timed.ended[name] - asked)
    return first, end


def test_a_flood_delays_another_tenant_by_no_more_than_its_share():
    _, alone = flooded_latencies(flood=False, cache_blocks=64)
    first, beside = flooded_latencies(flood=True, cache_blocks=64)
    # It gets a slot at once: its first token comes within two full steps. Then it has one of four rows.
    assert max(first) <= 2 * 16 * TOKEN_S
    assert sorted(beside)[4] <= 4 * max(alone)


def test_where_nothing_can_be_preempted_a_flooded_tenant_waits_for_a_slot():
    first, _ = flooded_latencies(flood=True, cache_blocks=0)
    assert max(first) > 2 * 16 * TOKEN_S


def under_load(arrivals: int, *, every: float) -> tuple[float, list[float], int]:
    """Tokens generated per second, seconds to the end of each accepted request, and how many were refused."""
    timed = Timed(batcher(slots=4, max_waiting=1000, max_wait_s=3.0))
    asked: dict[str, float] = {}
    refused = 0
    for index in range(arrivals):
        while timed.now < index * every:
            if timed.batcher.sequences:
                timed.step()
            else:
                timed.now = index * every
        try:
            timed.batcher.admit(sequence_request(f"r{index}", [1] * 8, max_tokens=8), timed.now)
            asked[f"r{index}"] = timed.now
        except Overloaded:
            refused += 1
    duration = timed.now
    done = sum(8 for name in asked if name in timed.ended)
    timed.run()
    assert timed.ended.keys() == asked.keys(), "every accepted request ends"
    return done / duration, [timed.ended[name] - at for name, at in asked.items()], refused


def test_at_four_times_the_sustainable_rate_the_engine_sheds_and_keeps_its_speed():
    service = TOKEN_S * (8 + 7)
    best, _, refused = under_load(300, every=service)
    assert refused == 0
    rate, latencies, refused = under_load(1200, every=service / 4)
    assert refused > 800
    assert rate >= 0.95 * best
    assert max(latencies) <= 3.0 + 1.0, "the bound on waiting, and the time to compute"


def test_short_prompts_do_not_wait_for_a_long_one():
    timed = Timed(batcher(slots=4, step_tokens=12))
    timed.batcher.admit(sequence_request("long", [1] * 60, max_tokens=1), 0.0)
    for name in ("short1", "short2"):
        timed.batcher.admit(sequence_request(name, [1] * 4, max_tokens=1), 0.0)
    timed.run()
    assert max(timed.ended["short1"], timed.ended["short2"]) < timed.ended["long"] / 2


def test_while_streams_run_a_step_takes_no_longer_than_it_may():
    def chunks(stream: bool) -> int:
        b = batcher(slots=4, step_tokens=64, step_s=12 * TOKEN_S)
        timed = Timed(b)
        b.admit(sequence_request("measured", [1] * 8, max_tokens=30 if stream else 1), 0.0)
        timed.step()
        for name in "abc":
            b.admit(sequence_request(name, [1] * 8), 0.0)
        return len(timed.step().prefill)

    assert chunks(stream=False) == 3
    assert chunks(stream=True) == 1
