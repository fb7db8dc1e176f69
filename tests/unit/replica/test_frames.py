"""Updates of steps to frames: whatever happens, exactly one terminal frame and no gap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine.request import SequenceUpdate
from services.inference.replica.generate.frames import Streams
from services.inference.replica.generate.stream import Finish, Stream
from services.inference.text.answer_text import AnswerText
from services.inference.text.tools.call_id import random_id
from services.inference.text.tools.parser import ToolCallParser
from shared.contracts.gateway import FinishReason, Timings
from shared.errors import Conflict, Draining
from shared.text.tokenizer import Tokenizer
from shared.text.tool_form import HERMES
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())
TIMINGS = Timings(queue_s=0.1, prefill_s=0.2, decode_s=0.3)


def stream(request_id="r", gateway="g", *, stops=(), eos=(2,), resumed=(), deadline=None, calls=None):
    return Stream(
        request_id=request_id,
        gateway_id=gateway,
        answer=AnswerText(TOKENIZER, stops, eos, resumed, calls=calls),
        prompt_tokens=5,
        resumed_tokens=len(resumed),
        max_tokens=100,
        deadline=deadline,
    )


def update(text_or_ids, finish=None, request_id="r", error=None):
    token_ids = tuple(TOKENIZER.encode(text_or_ids)) if isinstance(text_or_ids, str) else tuple(text_or_ids)
    timings = None if finish is None else TIMINGS
    return SequenceUpdate(request_id, token_ids, finish, timings, prompt_tokens=5, completion_tokens=0, error=error)


def opened(*streams):
    table = Streams("replica-1")
    for each in streams:
        table.open(each)
    return table


def only(step, gateway="g"):
    (frame,) = step.batches[gateway].frames
    return frame


def test_tokens_become_text_and_the_last_frame_says_why():
    streams = opened(stream())
    first = only(streams.apply([update("ab")]))
    assert (first.seq, first.text, first.token_ids) == (0, "ab", tuple(TOKENIZER.encode("ab")))
    assert first.finish_reason is first.usage is first.timings is None
    step = streams.apply([update("c", FinishReason.LENGTH)])
    last = only(step)
    assert (last.seq, last.text, last.finish_reason, last.timings) == (1, "c", FinishReason.LENGTH, TIMINGS)
    assert last.usage.prompt_tokens == 5
    assert last.usage.completion_tokens == len(TOKENIZER.encode("ab")) + len(TOKENIZER.encode("c"))
    assert [finished.finish.reason for finished in step.finished] == [FinishReason.LENGTH]
    assert len(streams) == 0


def test_a_step_is_one_message_per_gateway():
    streams = opened(stream("a", "g1"), stream("b", "g2"), stream("c", "g1"))
    step = streams.apply([update("x", request_id=each) for each in "abc"])
    assert {gateway: [f.request_id for f in batch.frames] for gateway, batch in step.batches.items()} == {
        "g1": ["a", "c"],
        "g2": ["b"],
    }


def test_tokens_without_text_still_make_a_frame():
    half = TOKENIZER.encode("👍")[:1]
    frame = only(opened(stream()).apply([update(half)]))
    assert (frame.text, frame.token_ids) == ("", tuple(half))


def test_an_update_without_tokens_makes_no_frame():
    assert opened(stream()).apply([update([])]).batches == {}


def test_an_eos_token_is_counted_and_not_printed():
    frame = only(opened(stream()).apply([update([10, 2], FinishReason.STOP)]))
    assert frame.token_ids == (10, 2)
    assert frame.text == TOKENIZER.decode([10])
    assert frame.usage.completion_tokens == 2


def test_a_stop_string_ends_the_text_at_once_and_the_stream_when_the_engine_confirms():
    streams = opened(stream(stops=["END"]))
    step = streams.apply([update("x END y")])
    tokens = only(step).token_ids
    assert only(step).text == "x "
    assert step.cancel == ["r"]
    assert step.finished == []
    last = only(streams.apply([update("more", FinishReason.CANCELLED)]))
    assert (last.text, last.token_ids, last.finish_reason) == ("", (), FinishReason.STOP)
    assert last.usage.completion_tokens == len(tokens)


def test_a_stop_string_in_the_engines_last_tokens_needs_no_cancel():
    step = opened(stream(stops=["END"])).apply([update("x END", FinishReason.LENGTH)])
    assert only(step).finish_reason is FinishReason.STOP
    assert step.cancel == []


def test_held_text_goes_out_when_the_answer_is_complete():
    streams = opened(stream(stops=["END"]))
    assert only(streams.apply([update("x EN")])).text == "x "
    assert only(streams.apply([update([], FinishReason.LENGTH)])).text == "EN"


def test_held_text_stays_when_the_answer_goes_on_elsewhere():
    streams = opened(stream(stops=["END"]))
    streams.apply([update("x EN")])
    assert streams.abort("r", Finish(FinishReason.ERROR, Draining("elsewhere")))
    last = only(streams.apply([update([], FinishReason.CANCELLED)]))
    assert (last.text, last.finish_reason, last.error.code) == ("", FinishReason.ERROR, "draining")
    assert last.error.retryable


def test_the_first_reason_to_end_stands():
    streams = opened(stream())
    assert streams.abort("r", Finish(FinishReason.CANCELLED))
    assert not streams.abort("r", Finish(FinishReason.ERROR, Draining("late")))
    assert streams.open_ids() == []
    assert only(streams.apply([update([], FinishReason.LENGTH)])).finish_reason is FinishReason.CANCELLED


def test_tokens_after_the_end_are_ignored():
    streams = opened(stream())
    streams.abort("r", Finish(FinishReason.CANCELLED))
    assert streams.apply([update("late")]).batches == {}


def test_updates_of_unknown_requests_are_ignored_and_unknown_requests_do_not_end():
    streams = opened(stream())
    assert streams.apply([update("x", request_id="other")]).batches == {}
    assert not streams.abort("other", Finish(FinishReason.CANCELLED))


def test_an_id_is_open_once():
    streams = opened(stream())
    with pytest.raises(Conflict):
        streams.open(stream())


def test_what_is_overdue_and_what_a_gateway_waits_for():
    streams = opened(stream("a", "g1", deadline=1000), stream("b", "g1"), stream("c", "g2", deadline=2000))
    assert streams.overdue(999) == []
    assert streams.overdue(1000) == ["a"]
    assert streams.of_gateways(["g1"]) == ["a", "b"]


def test_resumed_tokens_are_counted_and_not_sent_again():
    resumed = tuple(TOKENIZER.encode("the first half"))
    streams = opened(stream(resumed=resumed))
    frame = only(streams.apply([update(" and", FinishReason.LENGTH)]))
    assert (frame.seq, frame.text) == (0, " and")
    assert frame.usage.completion_tokens == len(resumed) + len(TOKENIZER.encode(" and"))


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["token", "stop", "eos", "finish", "end", "fail", "nothing"]),
    ),
    max_size=40,
)


@given(EVENTS)
def test_whatever_happens_each_request_gets_one_terminal_frame_and_no_gap(events):
    streams = opened(*(stream(each, f"g-{each}", stops=["END"]) for each in "abc"))
    alive, frames = set("abc"), {each: [] for each in "abc"}
    for request_id, event in [*events, *((each, "finish") for each in "abc")]:
        if event == "end":
            streams.abort(request_id, Finish(FinishReason.CANCELLED))
            continue
        if request_id not in alive:
            continue
        finish = {"eos": FinishReason.STOP, "finish": FinishReason.LENGTH, "fail": FinishReason.ERROR}.get(event)
        token_ids = {"token": TOKENIZER.encode("ab"), "stop": TOKENIZER.encode("END"), "eos": [2]}.get(event, [])
        error = Draining("x") if event == "fail" else None
        if finish:
            alive.discard(request_id)
        step = streams.apply([update(token_ids, finish, request_id, error)])
        streams.check_integrity()
        for batch in step.batches.values():
            for frame in batch.frames:
                frames[frame.request_id].append(frame)
    for collected in frames.values():
        assert [frame.seq for frame in collected] == list(range(len(collected)))
        assert [frame.finish_reason is not None for frame in collected] == [False] * (len(collected) - 1) + [True]
    assert len(streams) == 0


def test_the_last_frame_has_how_much_of_the_prompt_was_cached():
    table = opened(stream())
    last = update("x", FinishReason.STOP)
    last.cached_tokens = 3
    frame = only(table.apply([last]))
    assert frame.usage is not None
    assert (frame.usage.prompt_tokens, frame.usage.cached_tokens) == (5, 3)


def calling(**fields):
    return stream(calls=ToolCallParser(HERMES, random_id), **fields)


def test_a_call_leaves_the_text_when_it_is_whole_and_the_last_frame_says_so():
    streams = opened(calling())
    frame = only(streams.apply([update('a <tool_call>\n{"name": "f", "arguments": {"x')]))
    assert (frame.text, frame.tool_calls) == ("a", ())
    last = only(streams.apply([update('": 1}}\n</tool_call>', FinishReason.STOP)]))
    assert [(call.index, call.name, call.arguments) for call in last.tool_calls] == [(0, "f", '{"x": 1}')]
    assert (last.text, last.finish_reason) == ("", FinishReason.TOOL_CALLS)


def test_a_call_that_max_tokens_cut_is_not_there_and_those_before_it_are():
    streams = opened(calling())
    whole = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    last = only(streams.apply([update(whole + '\n<tool_call>\n{"name": "f", "arguments": {"x', FinishReason.LENGTH)]))
    assert [call.arguments for call in last.tool_calls] == ['{"x": 1}']
    assert (last.text, last.finish_reason) == ("", FinishReason.LENGTH)


def test_an_answer_that_stops_after_a_call_says_that_it_calls():
    call = '<tool_call>\n{"name": "f", "arguments": {"x": "END"}}\n</tool_call>'
    last = only(opened(calling(stops=["END"])).apply([update(f"so {call} the END of it", FinishReason.LENGTH)]))
    assert (last.text, last.finish_reason) == ("so the ", FinishReason.TOOL_CALLS)
    assert [call.arguments for call in last.tool_calls] == ['{"x": "END"}']
