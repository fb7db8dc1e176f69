"""Which values of which keys are searched."""

import re

import pytest

from devtools.train.search.space import Choice, Range, full_key, parse_over, parse_search, with_values
from shared.errors import InvalidInput

RECIPE = {"steps": 8, "optimizer": {"clip": 2.0}}


def space(**over):
    return parse_search({"over": over}, RECIPE)[1]


def test_ranges_and_choices_are_read():
    found = space(lr="1e-4..1e-2", rank="4,8,16", batch="2..8", clip="0.5..2.0", dora="true,false")
    assert found == {
        "optimizer.learning_rate": Range(1e-4, 1e-2, whole=False, logarithmic=True),
        "adapter.rank": Choice((4, 8, 16)),
        "batch": Range(2, 8, whole=True, logarithmic=False),
        "optimizer.clip": Range(0.5, 2.0, whole=False, logarithmic=False),
        "adapter.dora": Choice((True, False)),
    }
    assert space(**{"schedule.kind": ["cosine", "linear"]}) == {"schedule.kind": Choice(("cosine", "linear"))}


def test_values_go_to_their_place_and_leave_the_rest():
    assert with_values(RECIPE, {"optimizer.learning_rate": 1e-3, "batch": 4}) == {
        "steps": 8,
        "batch": 4,
        "optimizer": {"clip": 2.0, "learning_rate": 1e-3},
    }
    assert RECIPE == {"steps": 8, "optimizer": {"clip": 2.0}}
    assert full_key("rank") == "adapter.rank"


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"lr": "1e-2..1e-4"}, "no range of numbers, the lower one first"),
        ({"lr": "a..b"}, "no range of numbers"),
        ({"lr": "1e-3"}, "two or more different values"),
        ({"rank": "8,8"}, "two or more different values"),
        ({"rank": "8,"}, "two or more different values"),
        ({"ranq": "4,8"}, "did you mean 'adapter.rank'"),
        ({"optimiser.clip": "1,2"}, "unknown key"),
        ({"rank": "0..8"}, "adapter.rank is 0"),
        ({"dropout": "0.1,0.2"}, "which of adapter.dropout, robust.dropout"),
        ({"robust.dropout": "0.1,2"}, "robust.dropout is 2"),
        ({"max_len": "64,128"}, "could not be compared"),
        ({"share": "0.1,0.2"}, "could not be compared"),
        ({"size": "nano,micro"}, "has no effect with weights = 'adapter'"),
        ({}, "at least 1 item"),
    ],
)
def test_what_makes_no_sense_is_refused(over, says):
    with pytest.raises(InvalidInput, match=re.escape(says)):
        space(**over)


def test_words_of_a_command_line_are_read():
    assert parse_over(["lr=1e-4..1e-2", "rank = 4,8"]) == {"lr": "1e-4..1e-2", "rank": "4,8"}
    with pytest.raises(InvalidInput, match="expected KEY=LOW"):
        parse_over(["lr"])


def test_an_unknown_key_of_the_table_names_the_nearest():
    with pytest.raises(InvalidInput, match=r"'trails'; did you mean 'trials'"):
        parse_search({"over": {"lr": "1e-4..1e-2"}, "trails": 3}, RECIPE)
