"""What a gate asks, and its file."""

import re

import pytest

from devtools.evaluate.gate import Rule
from devtools.evaluate.policy import Policy, read_gate
from shared.errors import InvalidInput, NotFound

GATE = """
against = "smollm2@prod"
may_fall_by = 0.03
n = 200
judge = "big"

[suites.news]

[suites."piqa:2"]
may_fall_by = 0.05

[suites.tickets]
must_rise_by = 0.1
"""


def write(folder, text):
    path = folder / "gate.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_suite_has_its_margin_or_that_of_the_file(tmp_path):
    file = read_gate(write(tmp_path, GATE))
    assert (file.against, file.n, file.judge) == ("smollm2@prod", 200, "big")
    policy = file.policy()
    rules = {suite: policy.rule_of(suite) for suite in ("news:7", "piqa:2", "piqa:3", "tickets:1", "other:1")}
    of_tickets = Rule(must_rise_by=0.1)
    assert rules == {
        "news:7": Rule(0.03),
        "piqa:2": Rule(0.05),
        "piqa:3": None,
        "tickets:1": of_tickets,
        "other:1": None,
    }
    assert policy.missing({"news:7", "piqa:3"}) == ["piqa:2", "tickets"]


def test_a_file_without_a_margin_of_its_own_takes_the_default(tmp_path):
    assert read_gate(write(tmp_path, "[suites.team]")).policy().rule_of("team:1") == Rule()


def test_a_policy_without_rules_asks_for_every_suite():
    assert Policy(otherwise=Rule(0.1)).rule_of("anything:1") == Rule(0.1)
    assert Policy().missing({"anything:1"}) == []


def test_a_suite_may_be_named_by_an_alias():
    assert Policy({"team@prod": Rule(0.1)}).rule_of("team:4") == Rule(0.1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("against = ", "is not TOML"),
        ("", "it names no suite; expected a table for each, such as [suites.team]"),
        ("[suites]", "it names no suite"),
        ("suits = 1\n[suites.team]", "there is no key 'suits'; did you mean 'suites'?"),
        ("[suites.team]\nmay_fal_by = 0.1", "there is no key 'suites.team.may_fal_by'; did you mean 'may_fall_by'?"),
        ("[suites.team]\nmay_fall_by = '2 %'", "suites.team.may_fall_by: Input should be a valid number"),
        ("[suites.team]\nmay_fall_by = -1", "suites.team.may_fall_by: Input should be greater than or equal to 0"),
        ("[suites.team]\nmay_fall_by = 0.1\nmust_rise_by = 0.1", "suites.team: may_fall_by and must_rise_by exclude"),
        ("n = 0\n[suites.team]", "n: Input should be greater than or equal to 1"),
        ("suites = 3", "suites: Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line_with_its_key(tmp_path, text, says):
    path = write(tmp_path, text)
    with pytest.raises(InvalidInput, match=re.escape(says)) as raised:
        read_gate(path)
    assert str(path) in raised.value.message
    assert "\n" not in raised.value.message


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"the gate .*nothing\.toml can't be read: No such file"):
        read_gate(tmp_path / "nothing.toml")
