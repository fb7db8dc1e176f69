"""Where the tokens of a text completion stand in its text."""

import pytest

from services.gateway.http.logprobs import TextLogprobs
from shared.contracts.gateway import TokenLogprob


def scores(*texts: str) -> list[TokenLogprob]:
    """Of tokens with these texts; `<s>` is a control token."""
    return [TokenLogprob(token_id=1, text=text, bytes=() if text == "<s>" else None, logprob=-1.0) for text in texts]


@pytest.mark.parametrize(
    ("prompt", "tokens", "offsets"),
    [
        ("The capital", ["The", " capital"], [0, 3]),
        (" The capital", [" The", " capital"], [0, 4]),
        # SentencePiece: a space more than the prompt has, and a token that begins a text.
        ("The capital", ["<s>", " The", " capital"], [0, 0, 3]),
        (" The capital", ["<s>", "  The", " capital"], [0, 0, 4]),
        (" The capital", ["<s>", " ", " The", " capital"], [0, 0, 1, 4]),
        ("", ["<s>"], [0]),
        # A list of ids is echoed with its control tokens.
        ("<s> The capital", ["<s>", " The", " capital"], [0, 3, 7]),
    ],
)
@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_offsets_are_those_of_the_prompts_tokens_and_the_answer_follows(prompt, tokens, offsets, at_once):
    logprobs = TextLogprobs(as_ids=False)
    logprobs.echo(prompt)
    told = scores(*tokens)
    found = [
        offset
        for start in range(0, len(told), at_once)
        for offset in logprobs.prompt(told[start : start + at_once])["text_offset"]
    ]
    assert found == offsets
    assert logprobs.answer(scores(" is", " P"))["text_offset"] == [len(prompt), len(prompt) + 3]


def test_without_echo_the_first_token_is_the_first_of_the_text():
    assert TextLogprobs(as_ids=False).answer(scores(" is", " P"))["text_offset"] == [0, 3]
