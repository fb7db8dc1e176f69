"""The command line's own reader of event streams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.sse import event_data


@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x0cb", "a\x1cb"], ids=ascii)
def test_only_line_feeds_and_carriage_returns_end_a_line(text):
    assert list(event_data([f"data: {text}\n\n".encode()])) == [text.encode()]


@given(
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    events=st.lists(st.text().map(lambda text: text.replace("\n", "").replace("\r", "")), max_size=5),
    size=st.integers(1, 7),
)
def test_events_do_not_depend_on_how_bytes_arrive(end, events, size):
    stream = b"".join(b"data: " + event.encode() + end + end for event in events) + b": bye" + end
    chunks = [stream[index : index + size] for index in range(0, len(stream), size)]
    assert list(event_data(chunks)) == [event.encode() for event in events]


def test_comments_and_other_fields_are_skipped_and_lines_of_data_are_joined():
    stream = b": keep-alive\n\nevent: error\ndata: one\ndata:two\nid: 3\n\n"
    assert list(event_data([stream])) == [b"one\ntwo"]


def test_an_event_that_is_cut_off_is_none():
    assert list(event_data([b"data: whole\n\ndata: cu"])) == [b"whole"]
