import pytest

from services.inference.replica.generate.sampling import fitting_tokens
from shared.errors import ContextLengthExceeded


def test_without_max_tokens_an_answer_may_fill_the_slot():
    assert fitting_tokens(30, None, 100) == 70


def test_max_tokens_that_fit_stay():
    assert fitting_tokens(30, 70, 100) == 70


@pytest.mark.parametrize(("prompt", "max_tokens"), [(100, None), (140, None), (31, 70), (100, 1)])
def test_what_does_not_fit_is_refused_naming_the_numbers(prompt, max_tokens):
    with pytest.raises(ContextLengthExceeded) as caught:
        fitting_tokens(prompt, max_tokens, 100)
    assert f"{prompt} tokens" in caught.value.message
    assert "100" in caught.value.message
    if max_tokens:
        assert f"max_tokens is {max_tokens}" in caught.value.message
        assert str(prompt + max_tokens) in caught.value.message
