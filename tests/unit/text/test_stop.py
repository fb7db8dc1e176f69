"""Stop strings: the same end however the text is cut, and no more held back than needed."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.inference.text.stop import StopMatcher

SMALL = st.text(alphabet="ab", max_size=40)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=4)


def search(text, stops):
    """The specification: the text before the stop string that is complete first, the longest if several are."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


def run(pieces, stops):
    matcher, released = StopMatcher(stops), []
    for piece in pieces:
        text, stopped = matcher.push(piece)
        released.append(text)
        if stopped:
            return "".join(released), True
    return "".join(released) + matcher.finish(), False


@given(SMALL, STOPS, st.lists(st.integers(0, 40), max_size=8))
def test_any_cut_of_a_text_equals_the_search_in_the_whole(text, stops, cuts):
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in itertools.pairwise(borders)]
    assert run(pieces, stops) == search(text, stops)


@given(SMALL, STOPS)
def test_only_what_could_become_a_stop_string_is_held_back(text, stops):
    matcher, released = StopMatcher(stops), ""
    for position, char in enumerate(text, start=1):
        piece, stopped = matcher.push(char)
        if stopped:
            return
        released += piece
        held = text[len(released) : position]
        longest = max(
            (n for stop in stops for n in range(len(stop)) if text[:position].endswith(stop[:n])), default=0
        )
        assert len(held) == longest


def test_a_stop_string_across_pieces_is_not_in_the_text():
    matcher = StopMatcher(["\nUser:"])
    assert matcher.push("Hello\nUs") == ("Hello", False)
    assert matcher.push("er: hi") == ("", True)
    assert matcher.finish() == ""


def test_what_did_not_become_a_stop_string_is_released():
    matcher = StopMatcher(["END"])
    assert matcher.push("the E") == ("the ", False)
    assert matcher.push("N") == ("", False)
    assert matcher.push("T") == ("ENT", False)
    assert matcher.push("EN") == ("", False)
    assert matcher.finish() == "EN"


def test_without_stop_strings_nothing_is_held_back():
    assert StopMatcher([]).push("abc") == ("abc", False)
