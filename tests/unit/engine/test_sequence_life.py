import pytest

from services.inference.engine.sampling.params import SamplingParams
from services.inference.engine.sequence import TRANSITIONS, Sequence, State
from shared.contracts.gateway import FinishReason
from shared.errors import InvalidInput
from tests.support.factories.engines import sequence_request


def test_an_illegal_move_raises():
    sequence = Sequence(sequence_request(), now=0.0)
    with pytest.raises(RuntimeError, match="from WAITING to DECODE"):
        sequence.move_to(State.DECODE)


def test_every_state_can_finish_and_nothing_follows():
    assert not TRANSITIONS[State.FINISHED]
    assert all(State.FINISHED in TRANSITIONS[state] for state in State if state < State.FINISHED)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", -1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("min_tokens", -1),
        ("min_tokens", 10**9),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("seed", -1),
        ("seed", 1 << 64),
    ],
)
def test_a_sampling_value_out_of_range_is_refused_by_name(field: str, value: float):
    with pytest.raises(InvalidInput) as caught:
        SamplingParams(**{"max_tokens": 1, field: value})
    assert caught.value.param == field


def test_an_eos_token_ends_unless_it_is_ignored():
    sequence = Sequence(sequence_request(eos=(7,)), now=0.0)
    assert sequence.append(7, 0.0) is FinishReason.STOP
    assert not SamplingParams(4, eos_token_ids=(7,), ignore_eos=True).ends(7)


def test_an_eos_token_in_the_prompt_does_not_end():
    assert Sequence(sequence_request(prompt=(1, 7), eos=(7,)), now=0.0).reason_to_end() is None


def test_resumed_tokens_count_as_generated():
    sequence = Sequence(sequence_request(resumed=(4, 5), max_tokens=3), now=0.0)
    assert sequence.completion_tokens == 2
    assert sequence.append(6, 0.0) is FinishReason.LENGTH


def test_timings_split_the_life_into_queue_prefill_and_decode():
    sequence = Sequence(sequence_request(), now=1.0)
    sequence.start(slot=0, now=3.0)
    sequence.append(5, now=6.0)
    timings = sequence.timings(now=10.0)
    assert (timings.queue_s, timings.prefill_s, timings.decode_s) == (2.0, 3.0, 4.0)


def test_a_sequence_that_never_started_spent_its_time_in_the_queue():
    timings = Sequence(sequence_request(), now=1.0).timings(now=5.0)
    assert (timings.queue_s, timings.prefill_s, timings.decode_s) == (4.0, 0.0, 0.0)
