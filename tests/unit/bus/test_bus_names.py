"""Subjects, keys and bucket names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus.names import check_bucket, check_key, check_subject, matches
from shared.errors import InvalidInput

parts = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5)
patterns = st.tuples(
    st.lists(st.sampled_from(["a", "b", "c", "*"]), min_size=1, max_size=5), st.sampled_from(["", ".>"])
)


@given(parts, patterns)
def test_matching_agrees_with_a_regular_expression(subject: list[str], pattern: tuple[list[str], str]) -> None:
    wild, rest = pattern
    expected = r"\.".join("[^.]+" if part == "*" else part for part in wild) + (r"\..+" if rest else "")
    text = ".".join(subject)
    assert matches(".".join(wild) + rest, text) == bool(re.fullmatch(expected, text))


@pytest.mark.parametrize("subject", ["a", "llmos.v1.replica.smollm2-1-x7k2.generate", "$JS.API.INFO"])
def test_plain_subjects_are_valid(subject: str) -> None:
    check_subject(subject)


@pytest.mark.parametrize("subject", ["", ".", "a.", ".a", "a b", "a\r\nb", "a.*", "a.>", "a*"])
def test_what_cannot_be_published_on_is_refused(subject: str) -> None:
    with pytest.raises(InvalidInput):
        check_subject(subject)


def test_wildcards_are_whole_parts() -> None:
    for good in ("*", ">", "a.*.b", "a.>"):
        check_subject(good, wildcards=True)
    for bad in ("a*", ">.a", "a.>.b", "a>"):
        with pytest.raises(InvalidInput):
            check_subject(bad, wildcards=True)


def test_model_and_replica_names_are_keys() -> None:
    for good in ("smollm2", "smollm2-1-x7k2", "a.b_c", "models/a=1"):
        check_key(good)
    for bad in ("", ".", "a..b", "a b", "a*", "é"):
        with pytest.raises(InvalidInput):
            check_key(bad)


def test_bucket_names_have_no_dots() -> None:
    check_bucket("LLMOS_MODELS")
    with pytest.raises(InvalidInput):
        check_bucket("a.b")
