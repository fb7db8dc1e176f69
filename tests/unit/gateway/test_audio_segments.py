"""Parts of transcripts, and the forms in which they are answered."""

import pytest

from services.gateway.openai.audio.formats import Transcript, text_form, verbose_json_form
from services.gateway.openai.audio.segments import Segment, read_segments


def test_a_text_without_marks_is_one_segment() -> None:
    assert read_segments(" hello there", 30.0, 12.5) == ([Segment(30.0, 42.5, "hello there")], 12.5)
    assert read_segments("  ", 0.0, 30.0) == ([], 30.0)


def test_marks_give_the_times_of_parts() -> None:
    text = "<|0.00|> one<|2.40|><|2.40|> two<|5.00|>"
    assert read_segments(text, 60.0, 30.0) == ([Segment(60.0, 62.4, "one"), Segment(62.4, 65.0, "two")], 30.0)


def test_a_window_that_ends_within_a_sentence_is_gone_on_with_there() -> None:
    text = "<|0.00|> one<|24.00|><|24.00|>"
    assert read_segments(text, 0.0, 30.0) == ([Segment(0.0, 24.0, "one")], 24.0)


@pytest.mark.parametrize("text", ["<|0.00|><|0.00|>", "<|0.00|> a<|0.50|><|0.50|>", "<|0.00|><|0.00|><|0.00|>"])
def test_each_window_moves_on(text: str) -> None:
    _, passed = read_segments(text, 0.0, 30.0)
    assert passed >= 1.0


def test_a_part_without_an_end_lasts_as_long_as_the_window() -> None:
    assert read_segments("<|1.00|> one", 0.0, 8.0) == ([Segment(1.0, 8.0, "one")], 8.0)


def test_subtitles_have_hours_and_no_arrows_in_their_texts() -> None:
    transcript = Transcript(
        "transcribe", "", 3700.0, [Segment(0.5, 2.0, "a --> b"), Segment(3599.9996, 3661.25, "c")], 1, 1
    )
    assert text_form(transcript, "srt") == (
        "1\n00:00:00,500 --> 00:00:02,000\na -> b\n\n2\n01:00:00,000 --> 01:01:01,250\nc\n"
    )
    assert text_form(transcript, "vtt").startswith("WEBVTT\n\n00:00:00.500 --> 00:00:02.000\na -> b\n")
    assert text_form(transcript, "text") == "a --> b c\n"
    assert [part["id"] for part in verbose_json_form(transcript)["segments"]] == [0, 1]
