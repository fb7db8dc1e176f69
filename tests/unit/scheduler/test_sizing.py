import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.desired import desired
from services.scheduler.policy.sizing import Size, asked_size, largest_that_fits, why_smaller
from shared.contracts.manifest import Manifest
from shared.contracts.registry import ModelVersion
from shared.contracts.scheduler import Deploy
from shared.contracts.serving import ServingOptions
from tests.support.factories.scheduling import START

DEFAULT = Size(16, 4096)


def below(tokens: int):
    return lambda size: size.slots * size.max_len <= tokens


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (16 * 4096, Size(16, 4096)),
        (11 * 4096 + 100, Size(11, 4096)),
        (4 * 4096, Size(4, 4096)),
        (4 * 4096 - 1, Size(7, 2048)),
        (4 * 2048 - 1, Size(7, 1024)),
        (4 * 512, Size(4, 512)),
        (3 * 512, Size(3, 512)),
        (512, Size(1, 512)),
        (511, None),
    ],
)
def test_slots_are_given_up_before_length_down_to_four(tokens, expected):
    assert largest_that_fits(DEFAULT, below(tokens)) == expected


def test_what_is_named_stays():
    assert largest_that_fits(Size(8, 4096), below(8 * 1024), slots_named=True) == Size(8, 1024)
    assert largest_that_fits(Size(8, 4096), below(8 * 511), slots_named=True) is None
    assert largest_that_fits(DEFAULT, below(2 * 4096), max_len_named=True) == Size(2, 4096)
    assert largest_that_fits(DEFAULT, below(4095), max_len_named=True) is None


def test_a_context_below_the_shortest_length_is_kept():
    assert largest_that_fits(Size(16, 128), below(5 * 128)) == Size(5, 128)


@given(st.integers(1, 64), st.integers(1, 9000), st.integers(1, 1 << 20))
def test_what_is_found_fits_and_is_no_larger_than_what_was_asked_for(slots, max_len, tokens):
    found = largest_that_fits(Size(slots, max_len), below(tokens))
    if found is None:
        assert min(max_len, 512) > tokens
    else:
        assert found.slots * found.max_len <= tokens
        assert 1 <= found.slots <= slots
        assert 1 <= found.max_len <= max_len


def test_a_record_of_another_size_is_not_one_that_named_it():
    request = Deploy(reference="smollm2", draft_tokens=3)
    record = desired(request, ModelVersion.EXAMPLE, None, START, Size(5, 1024))
    assert (record.options.slots, record.options.max_len) == (5, 1024)
    assert record.asked == ServingOptions(draft_tokens=3)
    named = desired(Deploy(reference="smollm2", slots=2), ModelVersion.EXAMPLE, None, START, Size(5, 1024))
    assert (named.options.slots, named.options.max_len) == (2, 1024)


def test_a_record_says_what_it_did_not_get():
    request = Deploy(reference="smollm2")
    smaller = desired(request, ModelVersion.EXAMPLE, None, START, Size(1, 1024))
    assert why_smaller(smaller, Manifest.EXAMPLE) == (
        "it got 1 slot of 1024 tokens, which is what fits: no node has room for 16 slots of 4096 tokens"
    )
    assert why_smaller(desired(request, ModelVersion.EXAMPLE, None, START), Manifest.EXAMPLE) == ""
    asked = desired(Deploy(reference="smollm2", slots=1, max_len=64), ModelVersion.EXAMPLE, None, START)
    assert why_smaller(asked, Manifest.EXAMPLE) == ""


def test_the_default_size_is_that_of_the_context_up_to_4096():
    assert asked_size(ServingOptions(), Manifest.EXAMPLE) == DEFAULT
    assert asked_size(ServingOptions(slots=3, max_len=100), Manifest.EXAMPLE) == Size(3, 100)
