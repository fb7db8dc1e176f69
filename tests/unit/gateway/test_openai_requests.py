"""The request models: strict, and each refusal names the parameter."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.openai.requests import ChatRequest, CompletionRequest, parse
from shared.contracts.replica import ChatMessage
from shared.contracts.sampling import MAX_ALLOWED_TOKENS, MAX_BAD_WORD_CHARS, MAX_BAD_WORDS, Sampling
from shared.errors import InvalidInput


def chat(**changes: object) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **changes}
    return parse(ChatRequest, orjson.dumps(body))


def completion(**changes: object) -> CompletionRequest:
    return parse(CompletionRequest, orjson.dumps({"model": "m", "prompt": "hi", **changes}))


def test_what_is_not_given_stays_open_for_the_version() -> None:
    sampling = chat().sampling(random_seed=5)
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (None, None, None, 5)
    assert sampling.max_tokens is None
    assert completion().sampling(0).max_tokens == 16


def test_every_parameter_may_be_null() -> None:
    names = ("stream", "stream_options", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "n", "tools")
    assert chat(**dict.fromkeys(names)).sampling(5) == chat().sampling(5)
    assert chat(**dict.fromkeys(Sampling.model_fields)).sampling(5) == chat().sampling(5)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hi", "hi"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
    ],
)
def test_content_is_a_string_or_text_parts(content: object, text: str) -> None:
    parsed = chat(messages=[{"role": "user", "content": content}])
    assert parsed.chat_messages() == (ChatMessage(role="user", content=text),)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ("", ("",)),
    ],
)
def test_a_prompt_has_four_forms(prompt: object, prompts: tuple[object, ...]) -> None:
    assert completion(prompt=prompt).prompt == prompts


@pytest.mark.parametrize("prompt", [[], [[]], [True], [1, "a"], [-1], 5, {}, [["a"]], ["x"] * 129])
def test_other_prompts_are_refused_by_name(prompt: object) -> None:
    with pytest.raises(InvalidInput) as error:
        completion(prompt=prompt)
    assert (error.value.param or "").startswith("prompt")


@pytest.mark.parametrize(("stop", "stops"), [("x", ("x",)), (["x", "y"], ("x", "y")), (None, ()), ([], ())])
def test_stop_is_a_string_or_a_list(stop: object, stops: tuple[str, ...]) -> None:
    assert chat(stop=stop).stop == stops


def test_the_newer_name_of_max_tokens_wins() -> None:
    assert chat(max_tokens=5, max_completion_tokens=9).sampling(0).max_tokens == 9


@pytest.mark.parametrize(("seed", "used"), [(7, 7), (0, 0), (-1, (1 << 64) - 1), ((1 << 64) - 1, (1 << 64) - 1)])
def test_any_seed_of_openais_fits(seed: int, used: int) -> None:
    assert chat(seed=seed).sampling(5).seed == used


def test_minus_one_switches_top_k_off() -> None:
    assert chat(top_k=-1).sampling(0).top_k == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("length_penalty", 2), ("truncate_prompt_tokens", 9), ("use_beam_search", True)],
)
def test_what_is_not_supported_yet_says_so(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=rf"^{name} is not supported yet$") as error:
        chat(**{name: value})
    assert error.value.param == name


def test_every_sampling_parameter_reaches_the_replica() -> None:
    given = {
        "temperature": 0.5,
        "top_p": 0.75,
        "top_k": 40,
        "min_p": 0.125,
        "presence_penalty": -1,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.25,
        "ignore_eos": True,
        "min_tokens": 3,
        "include_stop_str_in_output": True,
    }
    lists: dict[str, object] = {"stop": ["a"], "stop_token_ids": [7, 8], "logit_bias": {"5": -100, "12": 1.5}}
    lists |= {"bad_words": ["x", " y"], "allowed_token_ids": [9, 5]}
    sampling = chat(**given, **lists, logprobs=True, top_logprobs=4).sampling(0)
    assert {name: getattr(sampling, name) for name in given} == given
    assert (sampling.stop, sampling.stop_token_ids) == (("a",), (7, 8))
    assert sampling.logit_bias == ((5, -100.0), (12, 1.5))
    assert (sampling.bad_words, sampling.allowed_token_ids) == (("x", " y"), (9, 5))
    assert (sampling.logprobs, sampling.prompt_logprobs) == (4, None)


@pytest.mark.parametrize(
    "bias", [{"a": 1}, {"-1": 1}, {"1": 101}, {"1": "x"}, {"1": None}, [1], {"": 1}, {str(i): 1 for i in range(1025)}]
)
def test_a_wrong_logit_bias_is_refused_by_name(bias: object) -> None:
    with pytest.raises(InvalidInput) as error:
        chat(logit_bias=bias)
    assert (error.value.param or "").startswith("logit_bias")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 0),
        ("n", 129),
        ("top_logprobs", 21),
        ("min_p", 1.5),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("repetition_penalty", 0),
        ("repetition_penalty", 1e-320),  # 0 in single precision: logits would be divided by it
        ("max_tokens", 1 << 63),
        ("min_tokens", -1),
        ("stop_token_ids", [-1]),
        ("logprobs", 1),
        ("bad_words", "word"),
        ("bad_words", [1]),
        ("bad_words", [""]),
        ("bad_words", ["a", " \n"]),
        ("bad_words", ["x" * (MAX_BAD_WORD_CHARS + 1)]),
        ("bad_words", ["x"] * (MAX_BAD_WORDS + 1)),
        ("bad_words", ["x" * 100] * 82),
        ("allowed_token_ids", []),
        ("allowed_token_ids", [-1]),
        ("allowed_token_ids", [True]),
        ("allowed_token_ids", ["5"]),
        ("allowed_token_ids", list(range(MAX_ALLOWED_TOKENS + 1))),
        ("prompt_logprobs", -1),
        ("prompt_logprobs", 21),
        ("prompt_logprobs", True),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as error:
        chat(**{name: value})
    assert (error.value.param or "").startswith(name)


def test_each_answer_has_a_seed_of_its_own_and_the_first_the_clients() -> None:
    seeds = [sampling.seed for sampling in chat(n=100, seed=7).samplings(0)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 100
    assert seeds == [sampling.seed for sampling in chat(n=100, seed=7).samplings(5)]


def test_parameters_that_contradict_one_another_are_refused() -> None:
    for make, param in (
        (lambda: chat(top_logprobs=2), "top_logprobs"),
        (lambda: chat(prompt_logprobs=1, stream=True), "prompt_logprobs"),
        (lambda: completion(prompt_logprobs=1, stream=True), "prompt_logprobs"),
        (lambda: completion(n=2, best_of=3), "best_of"),
        (lambda: completion(n=64, prompt=["a", "b", "c"]), "n"),
    ):
        with pytest.raises(InvalidInput) as error:
            make()
        assert error.value.param == param
    assert completion(n=2, best_of=2).choices == 2


def test_a_completion_may_have_no_answer_and_the_prompts_log_probabilities() -> None:
    sampling = completion(max_tokens=0, echo=True, logprobs=2).sampling(0)
    assert (sampling.max_tokens, sampling.logprobs, sampling.prompt_logprobs) == (0, 2, 2)
    assert completion(logprobs=2).sampling(0).prompt_logprobs is None
    with pytest.raises(InvalidInput):
        chat(max_tokens=0)


def test_the_prompts_log_probabilities_are_asked_for_once_where_all_answers_have_the_same() -> None:
    for asked in (chat(n=3, prompt_logprobs=2), completion(n=3, prompt_logprobs=2)):
        assert [sampling.prompt_logprobs for sampling in asked.samplings(0)] == [2, None, None]
    echoed = completion(n=2, echo=True, logprobs=3, prompt_logprobs=1)
    assert [sampling.prompt_logprobs for sampling in echoed.samplings(0)] == [3, 3]
    assert chat(prompt_logprobs=0, stream=True).sampling(0).prompt_logprobs is None
    assert completion(prompt_logprobs=0).sampling(0).prompt_logprobs == 0


def test_values_that_mean_off_are_accepted() -> None:
    chat(bad_words=[], allowed_token_ids=None, prompt_logprobs=None)
    chat(n=1, logprobs=False, presence_penalty=0.0, frequency_penalty=0, tools=[], response_format={"type": "text"})


def test_true_is_not_taken_for_one() -> None:
    with pytest.raises(InvalidInput):
        chat(n=True)


def test_unknown_parameters_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="unrecognized request argument: temperatur"):
        chat(temperatur=1)
    with pytest.raises(InvalidInput, match=r"messages\.0\.contents"):
        chat(messages=[{"role": "user", "contents": "x"}])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_invalid_input(body: bytes) -> None:
    for kind in (ChatRequest, CompletionRequest):
        with pytest.raises(InvalidInput):
            parse(kind, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["messages", "model", "stop", "temperature", "seed", "top_k", "stream", "stream_options", "n", "tools", "x"]
)


@given(FIELDS, JSON)
def test_any_value_of_any_field_is_accepted_or_refused_naming_it(name: str, value: object) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], name: value}
    named: str | None = name
    try:
        parse(ChatRequest, orjson.dumps(body)).sampling(0)
    except InvalidInput as error:
        named = error.param
    assert named is not None
    assert named.startswith(name)
