import pytest

from shared.errors import ContextLengthExceeded
from shared.text.context_length import check_context_length


@pytest.mark.parametrize(("tokens", "max_tokens"), [(100, 0), (99, None), (99, 1), (0, 100)])
def test_what_fits_to_the_last_token_is_taken(tokens, max_tokens):
    check_context_length(tokens, max_tokens, 100, param="prompt")


@pytest.mark.parametrize(("tokens", "max_tokens"), [(101, 0), (100, None), (100, 1), (1, 100)])
def test_one_token_more_is_refused_naming_the_field(tokens, max_tokens):
    with pytest.raises(ContextLengthExceeded, match=rf" 100 tokens, but the prompt has {tokens} tokens") as caught:
        check_context_length(tokens, max_tokens, 100, param="prompt")
    assert caught.value.param == "prompt"
    assert "This model's maximum context length is 100 tokens" in caught.value.message  # what clients look for
    assert ("max_tokens" in caught.value.message) == bool(max_tokens)
