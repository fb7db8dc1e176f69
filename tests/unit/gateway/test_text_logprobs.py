"""Where the tokens of a text completion stand in its text."""

import pytest

from services.gateway.openai.logprobs import TextLogprobs, prompt_logprobs
from shared.contracts.gateway import ScoredToken, TokenLogprob


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
    logprobs = TextLogprobs(as_ids=False, top=0)
    logprobs.echo(prompt)
    listed = scores(*tokens)
    found = [
        offset
        for start in range(0, len(listed), at_once)
        for offset in logprobs.prompt(listed[start : start + at_once])["text_offset"]
    ]
    assert found == offsets
    assert logprobs.completion(scores(" is", " P"))["text_offset"] == [len(prompt), len(prompt) + 3]


def test_without_echo_the_first_token_is_the_first_of_the_text():
    assert TextLogprobs(as_ids=False, top=0).completion(scores(" is", " P"))["text_offset"] == [0, 3]


def test_a_prompts_tokens_stand_by_id_with_the_likeliest_in_their_place():
    top = (ScoredToken(token_id=9, text=" a", logprob=-0.5), ScoredToken(token_id=4, text=" b", logprob=-1.0))
    listed = [
        TokenLogprob(token_id=7, text="The"),
        TokenLogprob(token_id=8, text=" c", logprob=-2.0, top=top, rank=3),
        TokenLogprob(token_id=9, text=" a", logprob=-0.5, top=top, rank=1),
    ]
    a, b, c = (
        {"logprob": logprob, "rank": rank, "decoded_token": text}
        for logprob, rank, text in ((-0.5, 1, " a"), (-1.0, 2, " b"), (-2.0, 3, " c"))
    )
    assert prompt_logprobs(listed, 2) == [None, {"8": c, "9": a, "4": b}, {"9": a, "4": b}]
    assert prompt_logprobs(listed, 0) == [None, {"8": c}, {"9": a}]


def test_an_echo_lists_at_most_as_many_tokens_as_logprobs_asks_for():
    top = (ScoredToken(token_id=9, text=" a", logprob=-0.5), ScoredToken(token_id=4, text=" b", logprob=-1.0))
    logprobs = TextLogprobs(as_ids=False, top=1)
    (listed,) = logprobs.prompt([TokenLogprob(token_id=8, text=" c", logprob=-2.0, top=top)])["top_logprobs"]
    assert listed == {" a": -0.5, " c": -2.0}
