"""Sampling, log probabilities and several answers as applications and evaluation tools ask for them."""

import math

import openai
import pytest

from tests.support.harness.embedded import BRIEF

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ASKED = {"model": "smollm2", "messages": [{"role": "user", "content": "Name an animal and an emoji of it."}]}
TEXT = "The capital of France is Paris. The capital of Italy is"


@pytest.fixture
def client(demo):
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key=demo.key, max_retries=0, timeout=120) as client:
        yield client


def test_chat_log_probabilities_spell_the_answer_whole_and_streamed(client):
    options = {**ASKED, "temperature": 0.9, "seed": 4, "max_tokens": 24, "logprobs": True, "top_logprobs": 3}
    (choice,) = client.chat.completions.create(**options).choices
    content = choice.logprobs.content
    assert b"".join(bytes(each.bytes) for each in content).decode(errors="replace") == choice.message.content
    for each in content:
        assert len(each.top_logprobs) == 3
        assert each.logprob <= each.top_logprobs[0].logprob <= 0
        assert [top.logprob for top in each.top_logprobs] == sorted(
            (t.logprob for t in each.top_logprobs), reverse=True
        )
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**options, stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == choice.message.content
    assert [each for chunk in chunks if chunk.logprobs for each in chunk.logprobs.content] == content


def test_an_evaluation_tool_gets_the_log_probabilities_of_a_prompt_as_text_or_as_ids(client):
    plain = {"model": "smollm2", "echo": True, "logprobs": 1, "max_tokens": 0, "temperature": 0}
    answer = client.completions.create(**plain, prompt=TEXT, extra_body={"return_token_ids": True})
    (choice,) = answer.choices
    logprobs = choice.logprobs
    assert (choice.text, choice.finish_reason) == (TEXT, "length")
    assert answer.usage.completion_tokens == 0
    assert "".join(logprobs.tokens) == TEXT
    assert logprobs.token_logprobs[0] is None
    assert logprobs.top_logprobs[0] is None
    assert len(logprobs.tokens) == answer.usage.prompt_tokens
    assert [TEXT[at:].startswith(token) for at, token in zip(logprobs.text_offset, logprobs.tokens, strict=True)]
    paris = logprobs.tokens.index(" Paris")
    assert math.exp(logprobs.token_logprobs[paris]) > 0.5
    assert max(logprobs.top_logprobs[paris], key=logprobs.top_logprobs[paris].get) == " Paris"
    ids = choice.prompt_token_ids
    (again,) = client.completions.create(**plain, prompt=[ids]).choices
    assert again.text == TEXT
    assert again.logprobs == logprobs


def test_an_echoed_prompt_goes_on_with_the_answer_and_its_log_probabilities(client):
    options = {"model": "smollm2", "prompt": TEXT, "max_tokens": 4, "temperature": 0}
    (bare,) = client.completions.create(**options).choices
    (choice,) = client.completions.create(**options, echo=True, logprobs=2).choices
    assert choice.text == TEXT + bare.text
    assert "".join(choice.logprobs.tokens) == choice.text
    chunks = [c.choices[0] for c in client.completions.create(**options, echo=True, logprobs=2, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == choice.text
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        pieces = [piece for chunk in chunks if chunk.logprobs for piece in getattr(chunk.logprobs, name)]
        assert pieces == getattr(choice.logprobs, name)


def test_several_answers_are_those_of_their_seeds_and_pay_the_prompt_once(client):
    options = {**ASKED, "temperature": 1.0, "seed": 11, "max_tokens": 12}
    alone = client.chat.completions.create(**options)
    several = client.chat.completions.create(**options, n=4)
    texts = [choice.message.content for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert texts[0] == alone.choices[0].message.content
    assert len(set(texts)) > 1
    assert several.usage.prompt_tokens == alone.usage.prompt_tokens
    streamed = dict.fromkeys(range(4), "")
    usage = None
    for chunk in client.chat.completions.create(**options, n=4, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert list(streamed.values()) == texts
    assert usage.model_dump(exclude={"prompt_tokens_details"}) == several.usage.model_dump(
        exclude={"prompt_tokens_details"}
    )


def test_bias_and_penalties_change_what_is_said(client):
    options = {"model": "smollm2", "prompt": TEXT, "max_tokens": 1, "temperature": 0}
    (first,) = client.completions.create(**options, extra_body={"return_token_ids": True}).choices
    (rome,) = first.token_ids
    (other,) = client.completions.create(**options, logit_bias={str(rome): -100}).choices
    assert other.text != first.text
    longer = {**options, "max_tokens": 48, "extra_body": {"return_token_ids": True, "ignore_eos": True}}
    (plain,) = client.completions.create(**longer).choices
    (varied,) = client.completions.create(**longer, frequency_penalty=2, presence_penalty=2).choices
    assert len(set(varied.token_ids)) > len(set(plain.token_ids))


def test_bad_words_and_allowed_tokens_change_what_is_said(client):
    options = {"model": "smollm2", "prompt": TEXT, "max_tokens": 24, "temperature": 0}
    (plain,) = client.completions.create(**options).choices
    assert "Rome" in plain.text
    (other,) = client.completions.create(**options, extra_body={"bad_words": ["Rome", "rome"]}).choices
    assert "Rome" not in other.text
    ids = {"return_token_ids": True}
    (yes, no) = client.completions.create(**(options | {"prompt": [" Yes", " No"]}), extra_body=ids).choices
    allowed = [yes.prompt_token_ids[0], no.prompt_token_ids[0]]
    question = {**options, "prompt": "Is Paris in France? Answer:", "max_tokens": 1}
    (answer,) = client.completions.create(**question, extra_body={"allowed_token_ids": allowed}).choices
    assert answer.text in {" Yes", " No"}


def test_a_prompts_log_probabilities_are_those_of_its_echo(client):
    options = {"model": "smollm2", "prompt": TEXT, "max_tokens": 1, "temperature": 0}
    (choice,) = client.completions.create(**options, extra_body={"prompt_logprobs": 2}).choices
    (echo,) = client.completions.create(**options, echo=True, logprobs=2).choices
    first, *scores = choice.prompt_logprobs
    assert first is None
    assert choice.logprobs is None
    expected = zip(echo.logprobs.tokens[1:-1], echo.logprobs.token_logprobs[1:-1], strict=True)
    for entries, (text, logprob) in zip(scores, expected, strict=True):
        own, *likeliest = entries.values()
        assert (own["decoded_token"], own["logprob"]) == (text, logprob)
        assert 2 <= len(entries) <= 3
        assert [each["rank"] for each in likeliest] == [rank for rank in (1, 2) if rank != own["rank"]]
    messages = [{"role": "user", "content": TEXT}]
    chat = client.chat.completions.create(
        model="smollm2", messages=messages, max_tokens=1, extra_body={"prompt_logprobs": 0}
    )
    assert len(chat.prompt_logprobs) == chat.usage.prompt_tokens
    assert all(len(entries) == 1 for entries in chat.prompt_logprobs[1:])


def test_stops_and_lengths_are_exact(client):
    options = {**ASKED, "temperature": 0, "max_tokens": 30}
    whole = client.chat.completions.create(**options, extra_body={"ignore_eos": True}).choices[0].message.content
    stop = whole[5:9]
    (cut,) = client.chat.completions.create(**options, stop=stop).choices
    assert (cut.message.content, cut.finish_reason) == (whole[: whole.index(stop)], "stop")
    (with_stop,) = client.chat.completions.create(
        **options, stop=stop, extra_body={"include_stop_str_in_output": True}
    ).choices
    assert with_stop.message.content == whole[: whole.index(stop) + len(stop)]
    messages = [{"role": "system", "content": BRIEF}, {"role": "user", "content": "What is the capital of France?"}]
    question = {"model": "smollm2", "messages": messages}
    short = client.chat.completions.create(**question, temperature=0, max_tokens=40)
    assert short.choices[0].finish_reason == "stop"
    longer = short.usage.completion_tokens + 5
    forced = client.chat.completions.create(
        **question, temperature=0, max_tokens=40, extra_body={"min_tokens": longer}
    )
    assert forced.usage.completion_tokens >= longer


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"extra_body": {"stop_token_ids": [99999]}}, "stop_token_ids"),
        ({"max_tokens": 5, "extra_body": {"min_tokens": 6}}, "min_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"extra_body": {"allowed_token_ids": [99999]}}, "allowed_token_ids"),
        ({"extra_body": {"prompt_logprobs": -1}}, "prompt_logprobs"),
        ({"extra_body": {"bad_words": [" "]}}, "bad_words"),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_name(client, given, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**ASKED, **given)
    assert refused.value.param == param
