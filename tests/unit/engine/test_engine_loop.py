import threading
import time
from dataclasses import replace

import pytest

from services.inference.engine.engine import Engine
from services.inference.engine.limits import EngineLimits
from services.inference.engine.scripted_decoder import ScriptedDecoder
from shared.contracts.gateway import FinishReason
from shared.errors import ContextLengthExceeded, Draining, Internal, Overloaded, ReplicaLost, Unavailable
from tests.support.factories.engines import SMALL, EngineUnderTest, sequence_request


class GatedDecoder(ScriptedDecoder):
    """Decodes one step per permit, so that a test knows where the engine is."""

    def __init__(self, **shape: int) -> None:
        super().__init__(**shape)
        self.permits = threading.Semaphore(0)
        self.in_step = threading.Event()

    def compute(self, spans):
        if spans[0].start >= 3:  # no prompt
            self.in_step.set()
            assert self.permits.acquire(timeout=30)
            self.in_step.clear()
        return super().compute(spans)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class BrokenDecoder(ScriptedDecoder):
    """Fails the next `failures` times."""

    failures = 0

    def compute(self, spans):
        if self.failures:
            self.failures -= 1
            raise MemoryError("no memory for the step")
        return super().compute(spans)


def test_a_batch_equals_each_sequence_alone():
    requests = [
        sequence_request(
            f"r{i}", [i, 2, 3] * (1 + i % 4), temperature=0.9 * (i % 2), top_p=0.9, max_tokens=12, seed=i
        )
        for i in range(10)
    ]
    with EngineUnderTest(ScriptedDecoder(slots=4)) as batched:
        together = batched.run(*requests)
        assert batched.engine.load().max_batch == 4
    with EngineUnderTest(ScriptedDecoder(slots=1)) as single:
        assert {r.request_id: single.run(r)[r.request_id] for r in requests} == together


def test_a_resumed_stream_equals_the_uninterrupted_stream():
    request = sequence_request(max_tokens=12, temperature=0.8, seed=5)
    with EngineUnderTest(ScriptedDecoder()) as under_test:
        (whole,) = under_test.run(request).values()
        for cut in range(13):
            rest = sequence_request(f"cut{cut}", resumed=whole[:cut], max_tokens=12, temperature=0.8, seed=5)
            assert under_test.run(rest)[f"cut{cut}"] == whole[cut:]
            assert under_test.updates[f"cut{cut}"][-1].completion_tokens == 12


def test_an_eos_token_is_delivered_with_the_final_update():
    with EngineUnderTest(ScriptedDecoder()) as under_test:
        (tokens,) = under_test.run(sequence_request("a")).values()
        eos = tokens[3]
        under_test.run(sequence_request("b", eos=(eos,)))
        last = under_test.updates["b"][-1]
        assert (last.finish, last.token_ids, last.completion_tokens) == (
            FinishReason.STOP,
            (eos,),
            tokens.index(eos) + 1,
        )


def test_updates_of_one_step_come_in_one_call():
    with EngineUnderTest(ScriptedDecoder(slots=4)) as under_test:
        under_test.run(*(sequence_request(f"r{i}", max_tokens=20) for i in range(4)))
        assert max(len(updates) for updates in under_test.steps) == 4


def test_a_step_is_published_before_the_next_is_computed_and_the_last_at_once():
    decoder = GatedDecoder(slots=2)
    with EngineUnderTest(decoder) as under_test:
        under_test.engine.submit(sequence_request("a", max_tokens=4))
        for published in (1, 2, 3):
            assert decoder.in_step.wait(10)
            assert [update.completion_tokens for update in under_test.updates["a"]] == list(range(1, published + 1))
            decoder.in_step.clear()
            decoder.permits.release()
        assert under_test.finish("a").completion_tokens == 4


def test_cancel_takes_effect_within_one_step_and_frees_the_slot():
    decoder = GatedDecoder(slots=2)
    with EngineUnderTest(decoder) as under_test:
        under_test.engine.submit(sequence_request("a", max_tokens=50))
        assert decoder.in_step.wait(10)
        under_test.engine.cancel("a")
        decoder.permits.release()
        last = under_test.finish("a")
        assert (last.finish, last.token_ids, last.completion_tokens) == (FinishReason.CANCELLED, (), 1)
        under_test.wait_idle()
        assert under_test.engine.load().free_slots == 2
        assert under_test.engine.load().counters.cancelled == 1


def test_cancel_from_within_on_step_works():
    ended = threading.Event()

    def on_step(updates):
        for update in updates:
            if update.completion_tokens == 3 and update.finish is None:
                engine.cancel(update.request_id)
            if update.finish is FinishReason.CANCELLED and update.completion_tokens == 3:
                ended.set()

    engine = Engine(ScriptedDecoder(), SMALL, on_step)
    engine.start()
    engine.submit(sequence_request(max_tokens=40))
    assert ended.wait(10)
    engine.close()


def test_an_unknown_id_is_cancelled_without_effect():
    with EngineUnderTest(ScriptedDecoder()) as under_test:
        under_test.engine.cancel("unknown")
        assert under_test.engine.idle


def test_drain_refuses_new_work_and_finishes_the_rest():
    decoder = GatedDecoder()
    with EngineUnderTest(decoder) as under_test:
        under_test.engine.submit(sequence_request("a", max_tokens=4))
        assert decoder.in_step.wait(10)
        under_test.engine.drain()
        with pytest.raises(Draining):
            under_test.engine.submit(sequence_request("b"))
        assert not under_test.engine.idle
        assert under_test.engine.load().draining
        decoder.permits.release(10)
        assert under_test.finish("a").finish is FinishReason.LENGTH


def test_what_can_not_be_taken_is_refused_at_once():
    decoder = GatedDecoder(slots=1)
    with EngineUnderTest(decoder, EngineLimits(16, 8, max_waiting=1)) as under_test:
        with pytest.raises(ContextLengthExceeded):
            under_test.engine.submit(sequence_request(max_tokens=1000))
        under_test.engine.submit(sequence_request("a"))
        assert decoder.in_step.wait(10)
        under_test.engine.submit(sequence_request("b"))
        with pytest.raises(Overloaded):
            under_test.engine.submit(sequence_request("c"))
        with pytest.raises(Overloaded):
            under_test.engine.check_queue("")
        load = under_test.engine.load()
        assert (load.running, load.waiting, load.queued_tokens, load.counters.rejected) == (1, 1, 3, 2)
        decoder.permits.release(100)
        under_test.finish("b")


def test_a_failed_step_ends_its_sequences_with_an_error_and_the_engine_goes_on():
    decoder = BrokenDecoder()
    with EngineUnderTest(decoder) as under_test:
        decoder.failures = 1
        under_test.engine.submit(sequence_request("a"))
        last = under_test.finish("a")
        assert last.finish is FinishReason.ERROR
        assert isinstance(last.error, Internal)
        assert "error id" in last.error.message
        assert "memory" not in last.error.message
        assert len(under_test.run(sequence_request("b"))["b"]) == 8
        assert under_test.fatal == []


class NeverTogether(ScriptedDecoder):
    """Fails whenever it has several spans at once; alone only if one is `bad`."""

    together = 0
    bad = -1

    def compute(self, spans):
        if len(spans) > 1 and any(len(span.tokens) > 1 for span in spans):
            self.together += 1
            raise MemoryError("no memory for all at once")
        if self.bad in spans[0].tokens:
            raise ValueError("no such thing")
        return super().compute(spans)


def test_a_step_that_fails_as_a_whole_costs_only_the_part_that_fails_alone():
    requests = [sequence_request(f"r{i}", [20 + i] * 20, max_tokens=12) for i in range(4)]
    with EngineUnderTest(ScriptedDecoder(slots=4)) as whole:
        expected = whole.run(*requests)
    decoder = NeverTogether(slots=4)
    with EngineUnderTest(decoder) as under_test:
        assert under_test.run(*requests) == expected
        assert decoder.together > 0
        decoder.bad = 63
        for request in requests:
            under_test.engine.submit(replace(request, request_id=f"{request.request_id}-again"))
        under_test.engine.submit(sequence_request("bad", [63] * 20))
        assert under_test.finish("bad").finish is FinishReason.ERROR
        assert [under_test.tokens(f"r{i}-again") for i in range(4)] == list(expected.values())
        assert under_test.fatal == []


def test_memory_of_the_last_slot_goes_back_without_another_request():
    decoder = ScriptedDecoder(slots=2)
    with EngineUnderTest(decoder, replace(SMALL, keep_slot_s=0.05)) as under_test:
        under_test.run(sequence_request("a"))
        wait_until(lambda: decoder.used_slots() == [])


def test_a_decoder_that_keeps_failing_ends_the_engine():
    decoder = BrokenDecoder()
    with EngineUnderTest(decoder) as under_test:
        decoder.failures = 3
        for name in "abc":
            under_test.engine.submit(sequence_request(name))
            assert under_test.finish(name).finish is FinishReason.ERROR
        under_test.engine._thread.join(10)
        assert len(under_test.fatal) == 1
        with pytest.raises(Unavailable):
            under_test.engine.submit(sequence_request("d"))
        assert under_test.engine.idle


def test_close_ends_what_runs_so_that_it_can_go_on_elsewhere():
    decoder = GatedDecoder()
    with EngineUnderTest(decoder) as under_test:
        under_test.engine.submit(sequence_request("a", max_tokens=50))
        assert decoder.in_step.wait(10)
        closer = threading.Thread(target=under_test.engine.close)
        closer.start()
        wait_until(lambda: under_test.engine._closing)
        decoder.permits.release(100)
        closer.join(10)
        last = under_test.finish("a")
        assert isinstance(last.error, ReplicaLost)
        assert last.completion_tokens == 2
        with pytest.raises(Draining):
            under_test.engine.submit(sequence_request("b"))


def test_waves_of_requests_leave_nothing_behind():
    decoder = ScriptedDecoder(slots=4)
    with EngineUnderTest(decoder) as under_test:
        for wave in range(10):
            under_test.run(*(sequence_request(f"{wave}-{i}", [i] * (1 + i), max_tokens=3 + i) for i in range(9)))
        under_test.wait_idle()
        load = under_test.engine.load()
        assert (load.running, load.waiting, load.queued_tokens, load.free_slots) == (0, 0, 0, 4)
        assert load.counters.generated_tokens == 10 * sum(3 + i for i in range(9))
        assert load.counters.prompt_tokens == 10 * sum(1 + i for i in range(9))
        assert 1.0 < load.mean_batch <= 4.0
        assert under_test.engine.load().mean_batch == 0.0
    assert decoder.used_slots() == []


def test_timings_come_with_the_last_update():
    with EngineUnderTest(ScriptedDecoder(token_s=0.002)) as under_test:
        under_test.run(sequence_request("a", [1] * 20, max_tokens=5))
        timings = under_test.updates["a"][-1].timings
        assert timings is not None
        assert timings.prefill_s > 0.03
        assert timings.decode_s > 0.005
        assert timings.queue_s >= 0.0
        assert all(update.timings is None for update in under_test.updates["a"][:-1])


class Clock:
    """Set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def stalled_after(load, clock: Clock, seconds: float) -> float:
    """What the load says after so many seconds, looked at twice a second."""
    for _ in range(round(2 * seconds)):
        clock.now += 0.5
        load()
    return load().stalled_s


def test_an_engine_whose_decoder_hangs_says_so_refuses_requests_and_recovers():
    decoder, clock = GatedDecoder(slots=2), Clock()
    done: list[str] = []
    engine = Engine(
        decoder, SMALL, lambda updates: done.extend(u.request_id for u in updates if u.finish), clock=clock
    )
    engine.start()
    try:
        engine.submit(sequence_request("a", max_tokens=3))
        assert decoder.in_step.wait(10)
        assert stalled_after(engine.load, clock, 4.5) == 0
        engine.submit(sequence_request("b", max_tokens=3))
        assert stalled_after(engine.load, clock, 2) > 5
        with pytest.raises(Unavailable, match="stalled"):
            engine.submit(sequence_request("c"))
        with pytest.raises(Unavailable, match="stalled"):
            engine.check_queue("")
        engine.cancel("a")  # as the gateway does that goes on elsewhere: the stall stays until the step ends
        assert engine.load().stalled_s > 5
        for _ in range(10):
            decoder.permits.release()
        wait_until(lambda: sorted(done) == ["a", "b"])
        assert engine.load().stalled_s == 0
        engine.submit(sequence_request("d", max_tokens=1))
        wait_until(lambda: "d" in done)
        wait_until(lambda: engine.idle)
        assert stalled_after(engine.load, clock, 600) == 0
    finally:
        engine.close()
