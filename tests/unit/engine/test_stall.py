"""When an engine counts as stalled, and when a long step is just a long step."""

import pytest

from services.inference.engine.stall import FACTOR, StallDetector, StepTimes, stall_limit
from shared.deadlines import LOAD_REPORT_S, STALL_S, STALL_UNMEASURED_S


class Watched:
    """A detector with a clock, looked at twice a second."""

    def __init__(self) -> None:
        self.detector = StallDetector()
        self.now = 1000.0

    def step(self, seconds: float, *, prompt_tokens: int = 0) -> list[float]:
        """A whole step; what the looks during it said."""
        self.detector.begin(self.now, prompt_tokens=prompt_tokens)
        looks = self.wait(seconds)
        self.detector.end(self.now)
        return looks

    def wait(self, seconds: float, *, working: bool = True, every: float = LOAD_REPORT_S) -> list[float]:
        """Time passes; what the looks say."""
        looks, end = [], self.now + seconds
        while self.now + every <= end:
            self.now += every
            looks.append(self.detector.look(self.now, working=working))
        self.now = end
        return looks

    def measured(self, seconds: float, *, prompt_tokens: int = 0, steps: int = 5) -> "Watched":
        for _ in range(steps):
            self.step(seconds, prompt_tokens=prompt_tokens)
        return self


def test_without_a_step_for_five_seconds_a_fast_engine_has_stalled_and_with_the_next_step_not_any_more():
    watched = Watched().measured(0.02)
    watched.detector.begin(watched.now, prompt_tokens=0)
    assert not any(watched.wait(STALL_S))
    assert STALL_S < watched.wait(2 * LOAD_REPORT_S)[-1] <= STALL_S + 2 * LOAD_REPORT_S
    assert watched.detector.stalled
    watched.detector.end(watched.now)
    assert not watched.detector.stalled
    assert watched.wait(LOAD_REPORT_S) == [0.0]


def test_an_idle_engine_never_stalls():
    watched = Watched().measured(0.02)
    assert not any(watched.wait(3600, working=False))
    assert not any(watched.wait(STALL_S))  # work has come: it has its full time from now on


def test_work_that_no_step_takes_is_a_stall():
    """The thread has ended, or was not woken: nothing began."""
    watched = Watched().measured(0.02)
    assert watched.wait(2 * STALL_S)[-1] > STALL_S


@pytest.mark.parametrize("decode_s", [0.5, 2.0])
def test_a_long_prefill_on_a_slow_machine_is_no_stall(decode_s):
    """A model that takes half a second per token: 64 tokens of a prompt take half a minute."""
    watched = Watched().measured(decode_s * 0.4 * 8, prompt_tokens=8, steps=1).measured(decode_s, steps=64)
    assert not any(watched.step(decode_s * 0.4 * 64, prompt_tokens=64))
    assert not any(watched.step(decode_s * 0.4 * 192 * 4, prompt_tokens=192)), "nor one with a long context"


def test_a_short_rest_of_a_prompt_may_last_as_long_as_all_weights_take_to_read():
    """In long chunks a token of a prompt is cheap; a step of one token still reads the whole model."""
    watched = Watched().measured(19.2, prompt_tokens=192, steps=3)
    assert not any(watched.step(10.0, prompt_tokens=1))


def test_the_first_decode_step_is_measured_by_the_prompt_before_it():
    watched = Watched().measured(4.0, prompt_tokens=64, steps=1)
    assert not any(watched.step(8.0))


def test_the_first_step_of_all_has_a_minute():
    watched = Watched()
    watched.detector.begin(watched.now, prompt_tokens=64)
    assert not any(watched.wait(STALL_UNMEASURED_S))
    assert watched.wait(2 * LOAD_REPORT_S)[-1]


def test_one_slow_step_does_not_blind_the_detector():
    watched = Watched().measured(0.02, steps=20).measured(60.0, steps=1)
    watched.detector.begin(watched.now, prompt_tokens=0)
    assert watched.wait(STALL_S + 2 * LOAD_REPORT_S)[-1]


def test_a_pause_of_the_whole_process_is_no_stall():
    """SIGSTOP, a suspended laptop, a machine that swaps: nothing looked, so nothing counts."""
    watched = Watched().measured(0.02)
    watched.detector.begin(watched.now, prompt_tokens=0)
    watched.now += 600
    assert not any(watched.wait(2.0))


def test_steps_that_only_give_memory_back_are_no_measure_of_steps_that_compute():
    watched = Watched().measured(1.0, steps=3)
    for _ in range(60):
        watched.detector.begin(watched.now, prompt_tokens=0)
        watched.detector.end(watched.now, computed=False)
    assert not any(watched.step(15.0))


def test_the_limit_is_five_seconds_or_twenty_times_the_step():
    assert stall_limit(0.001) == STALL_S
    assert stall_limit(1.0) == FACTOR == 20
    assert stall_limit(None) == STALL_UNMEASURED_S


def test_a_step_is_expected_to_take_its_rows_and_its_prompt_tokens():
    times = StepTimes()
    assert times.expected(0) is None
    for seconds in (0.1, 0.2, 0.9):
        times.add(seconds, 0)
    times.add(6.4, 64)
    assert times.expected(0) == pytest.approx(0.2)
    assert times.expected(64) == pytest.approx(0.2 + 6.4)
