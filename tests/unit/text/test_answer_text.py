"""An answer's text from tokens; resumed anywhere, it is the same text."""

from hypothesis import given
from hypothesis import strategies as st

from services.inference.text.answer_text import AnswerText
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_tokenizers import byte_fallback, byte_level

TOKENIZER = Tokenizer(byte_level())
EOS = 2
TOKENS = st.lists(st.sampled_from([*TOKENIZER.encode("aab👍é你 end<|im_start|>"), 3, 200, 401]), max_size=30)
STOPS = st.lists(st.sampled_from(["a", "ab", "👍", "b👍é", "end", " e"]), max_size=3)


def collect(answer, token_ids):
    released = []
    for token_id in token_ids:
        text, _ = answer.push((token_id,))
        released.append(text)
        if answer.stopped:
            break
    return "".join(released) + answer.finish()


@given(TOKENS, STOPS, st.integers(0, 30))
def test_a_resumed_answer_goes_on_where_the_lost_one_ended(token_ids, stops, cut):
    whole = collect(AnswerText(TOKENIZER, stops), token_ids)
    lost, before = AnswerText(TOKENIZER, stops), ""
    for token_id in token_ids[:cut]:
        before += lost.push((token_id,))[0]
    resumed = AnswerText(TOKENIZER, stops, resumed=token_ids[:cut])
    assert (resumed.stopped, resumed.tokens) == (lost.stopped, lost.tokens)
    after = resumed.finish() if resumed.stopped else collect(resumed, token_ids[cut:])
    assert before + after == whole


@given(TOKENS, STOPS)
def test_tokens_one_by_one_and_at_once_give_the_same(token_ids, stops):
    at_once = AnswerText(TOKENIZER, stops)
    text, taken = at_once.push(token_ids)
    one_by_one = AnswerText(TOKENIZER, stops)
    assert text + at_once.finish() == collect(one_by_one, token_ids)
    assert taken == at_once.tokens == one_by_one.tokens


def test_an_eos_token_ends_the_answer_and_counts_but_has_no_text():
    answer = AnswerText(TOKENIZER, ending_ids=(EOS,))
    token_ids = [*TOKENIZER.encode("hi"), EOS, *TOKENIZER.encode("more")]
    text, taken = answer.push(token_ids)
    assert (text, answer.stopped) == ("hi", True)
    assert taken == answer.tokens == len(TOKENIZER.encode("hi")) + 1


def test_held_text_is_released_when_the_answer_ends_otherwise():
    answer = AnswerText(TOKENIZER, ["enddd"], ending_ids=(EOS,))
    text, _ = answer.push(TOKENIZER.encode("the end"))
    assert text == "the "
    answer.push((EOS,))
    assert answer.finish() == "end"
    assert answer.finish() == ""


def test_nothing_follows_a_stop_string():
    answer = AnswerText(TOKENIZER, ["x"])
    half = TOKENIZER.encode("👍")[0]
    text, _ = answer.push([*TOKENIZER.encode("ax"), half])
    assert (text, answer.stopped, answer.finish()) == ("a", True, "")


@given(st.integers(0, 8))
def test_a_stop_string_counts_only_in_what_comes_after_min_tokens(least):
    token_ids = [token for letter in "axbxcxd" for token in TOKENIZER.encode(letter)]
    assert len(token_ids) == 7
    answer = AnswerText(TOKENIZER, ["x"], min_tokens=least)
    expected = "axbxcxd"[:least] + "axbxcxd"[least:].partition("x")[0]
    assert collect(answer, token_ids) == expected
    assert answer.stopped == ("x" in "axbxcxd"[least:])


def test_a_stop_string_that_begins_within_min_tokens_does_not_count():
    token_ids = [token for letter in "abcab" for token in TOKENIZER.encode(letter)]
    answer = AnswerText(TOKENIZER, ["ab"], min_tokens=1)
    assert collect(answer, token_ids) == "abc"
    assert answer.stopped


def test_resumed_tokens_may_end_the_answer_already():
    assert AnswerText(TOKENIZER, ["end"], resumed=TOKENIZER.encode("the end")).stopped
    assert AnswerText(TOKENIZER, ending_ids=(EOS,), resumed=[10, EOS]).stopped


def test_an_exact_answer_keeps_the_space_that_a_tokenizer_would_strip():
    tokenizer = Tokenizer(byte_fallback())
    tokens = tokenizer.encode("Hello")
    assert AnswerText(tokenizer).push(tokens)[0] == "Hello"
    assert AnswerText(tokenizer, exact=True).push(tokens)[0] == " Hello"
