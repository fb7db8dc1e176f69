"""Bias, penalties, cuts and log probabilities, each against a naive reference; any mix of them in any batch."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.engine.sampling.filtering import pick, top_k, top_p
from services.inference.engine.sampling.logits_processors import LogitsProcessors, apply_mask
from services.inference.engine.sampling.logprobs import RowScores, score_chunk
from services.inference.engine.sampling.params import SamplingParams, TokenScore
from services.inference.engine.sampling.sampler import Choice, Draw, choose

VOCAB = 301
TOKENS = st.integers(0, VOCAB - 1)
PARAMS = st.builds(
    SamplingParams,
    st.just(50),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 7, 40, 500]),
    top_p=st.sampled_from([0.2, 0.9, 1.0]),
    seed=st.integers(0, 2**64 - 1),
    eos_token_ids=st.just((3,)),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    top_n_sigma=st.sampled_from([0.0, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.7]),
    presence_penalty=st.sampled_from([0.0, 0.5, -1.0]),
    frequency_penalty=st.sampled_from([0.0, 0.25]),
    logit_bias=st.lists(st.tuples(TOKENS, st.floats(-100, 100)), max_size=3, unique_by=lambda pair: pair[0]).map(
        tuple
    ),
    stop_token_ids=st.sampled_from([(), (5, 9)]),
    bad_words=st.sampled_from([(), ((4,),), ((7,), (5, 6), (1, 2, 3), (2, 2), (8, 2, 3))]),
    allowed_token_ids=st.sampled_from([None, tuple(range(1, VOCAB, 2)), (3, 7, 7)]),
    min_tokens=st.sampled_from([0, 4, 20]),
    logprobs=st.sampled_from([None, 0, 1, 5]),
)
SEQUENCES = st.tuples(
    PARAMS,
    st.lists(TOKENS, min_size=1, max_size=12),
    st.lists(TOKENS | st.integers(1, 8), max_size=12),
    st.booleans(),
)


def logits_of(seed: int, rows: int = 1, spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, VOCAB)) * spread).astype(np.float32)


def mask_of(allowed: np.ndarray) -> np.ndarray:
    bits = np.zeros(-(-allowed.size // 32) * 32, dtype=bool)
    bits[: allowed.size] = allowed
    return np.packbits(bits, bitorder="little").view(np.uint32)


def draw_of(params: SamplingParams, prompt: list[int], answer: list[int], *, masked: bool) -> Draw:
    mask = mask_of(np.arange(VOCAB) % 3 == 0) if masked else None
    return Draw(params, len(prompt) + len(answer), LogitsProcessors.of(params, prompt, answer), mask)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.lists(SEQUENCES, min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_any_mix_of_parameters_gives_each_row_what_it_gets_alone(seed, sequences, random):
    rows = logits_of(seed, len(sequences))

    def together(order: list[int]) -> dict[int, Choice]:
        draws = [
            draw_of(p, prompt, answer, masked=masked) for p, prompt, answer, masked in (sequences[i] for i in order)
        ]
        batch = np.ascontiguousarray(rows[order])
        return {i: choose(row, draw) for i, row, draw in zip(order, batch, draws, strict=True)}

    order = list(range(len(sequences)))
    alone = {i: together([i])[i] for i in order}
    assert together(order) == alone
    random.shuffle(order)
    assert together(order) == alone


@given(SEQUENCES, st.integers(0, 2**32), st.integers(0, 12))
def test_logits_processors_of_a_resumed_sequence_go_on_as_the_first_ones(sequence, seed, cut):
    params, prompt, answer, _ = sequence
    row = logits_of(seed)[0]
    grown = LogitsProcessors(params, prompt, answer[:cut])
    grown.apply(row.copy())
    for token in answer[cut:]:
        grown.accept(token)
        grown.apply(row.copy())
    a, b = row.copy(), row.copy()
    grown.apply(a)
    LogitsProcessors(params, prompt, answer).apply(b)
    assert np.array_equal(a, b)


def penalised(row: np.ndarray, params: SamplingParams, prompt: list[int], answer: list[int]) -> np.ndarray:
    """vLLM's and OpenAI's definitions, token by token, in float64."""
    expected = row.astype(np.float64)
    if params.allowed_token_ids is not None:
        expected[[token for token in range(VOCAB) if token not in params.allowed_token_ids]] = -np.inf
    completing = [word[-1] for word in params.bad_words if tuple([*answer, word[-1]][-len(word) :]) == word]
    ending = list(params.ending_ids) if len(answer) < params.min_tokens else []
    for forbidden in (completing, ending):
        if np.delete(expected, forbidden).max() > -np.inf:
            expected[forbidden] = -np.inf
    for token, bias in params.logit_bias:
        expected[token] += bias
    for token in range(VOCAB):
        if token in prompt or token in answer:
            factor = params.repetition_penalty
            expected[token] = expected[token] / factor if expected[token] > 0 else expected[token] * factor
        count = answer.count(token)
        expected[token] -= params.frequency_penalty * count + params.presence_penalty * (count > 0)
    return expected


@given(SEQUENCES, st.integers(0, 2**32))
def test_bias_and_penalties_are_those_of_the_definitions(sequence, seed):
    params, prompt, answer, _ = sequence
    params = replace(params, top_n_sigma=0.0)  # a test of its own compares it, away from its border
    row = logits_of(seed)[0]
    expected = penalised(row, params, prompt, answer)
    processors = LogitsProcessors.of(params, prompt, answer)
    if processors is not None:
        processors.apply(row)
    assert np.allclose(row, expected, rtol=1e-5, atol=1e-4)
    assert row.max() > -np.inf


@given(st.integers(0, 2**32), st.integers(1, 400), st.sampled_from([1, 63, 64, 65, 130, 301, 4097]), st.booleans())
def test_the_largest_are_those_of_a_stable_sort(seed, count, size, rough):
    rng = np.random.default_rng(seed)
    row = rng.standard_normal(size).astype(np.float32)
    if rough:
        row = np.round(row)  # many equal values
    assert top_k(row, count).tolist() == sorted(np.argsort(-row, kind="stable")[:count].tolist())


@given(st.integers(0, 2**32), st.sampled_from([0.01, 0.5, 0.9, 0.999]), st.floats(0.1, 20.0))
def test_a_nucleus_is_the_smallest_set_that_weighs_enough(seed, share, spread):
    row = logits_of(seed, spread=spread)[0].astype(np.float64)
    weights = np.exp(row - row.max()).astype(np.float32)
    found = top_p(weights, float(weights.sum()), share)
    ordered = np.sort(weights.astype(np.float64))[::-1].cumsum()
    needed = share * weights.sum(dtype=np.float64)
    assert weights[found].min() >= np.delete(weights, found).max(initial=0.0)
    assert ordered[found.size - 1] >= needed * (1 - 1e-5)
    assert found.size == 1 or ordered[found.size - 2] < needed * (1 + 1e-5)


@pytest.mark.parametrize("size", [1, 5, 64, 200, 3001])
def test_a_pick_follows_the_weights_and_never_takes_an_impossible_token(size):
    weights = np.random.default_rng(size).random(size).astype(np.float32)
    weights[size // 2 :: 2] = 0.0
    weights[0] = 1.0
    points = (np.arange(4_000) + 0.5) / 4_000
    shares = np.bincount([pick(weights, point) for point in points], minlength=size) / points.size
    assert np.allclose(shares, weights / weights.sum(), atol=5e-3)
    assert not shares[weights == 0].any()
    assert weights[pick(weights, 1.0 - 2.0**-53)] > 0


@given(st.integers(0, 2**32), st.floats(0.001, 1.0), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0, 5]))
def test_min_p_lets_through_what_is_probable_enough(seed, min_p, temperature, top_k):
    row = logits_of(seed)
    scaled = row[0].astype(np.float64) / temperature
    allowed = set(np.flatnonzero(np.exp(scaled - scaled.max()) >= min_p * (1 - 1e-4)).tolist())
    if top_k:
        allowed &= set(np.argsort(-row[0], kind="stable")[:top_k].tolist())
    params = SamplingParams(1, temperature, min_p=min_p, top_k=top_k, seed=seed)
    for position in range(20):
        assert choose(row[0].copy(), Draw(params, position)).token in allowed


@given(st.integers(0, 2**32), st.floats(0.01, 4.0), st.sampled_from([0.5, 2.0]), st.booleans())
def test_top_n_sigma_lets_through_what_is_near_the_largest_logit_of_possible_tokens(
    seed, sigmas, temperature, masked
):
    row = logits_of(seed)[0]
    possible = np.arange(VOCAB) % 3 == 0 if masked else np.full(VOCAB, True)
    logits = row[possible].astype(np.float64)
    allowed = possible & (row >= logits.max() - sigmas * logits.std() - 1e-4)
    for position in range(20):
        draw = draw_of(
            SamplingParams(1, temperature, top_n_sigma=sigmas, seed=seed), [1] * position, [], masked=masked
        )
        assert allowed[choose(row.copy(), draw).token]


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 5, 20]), TOKENS)
def test_log_probabilities_are_those_of_the_softmax(seed, top, token):
    row = logits_of(seed)[0]
    expected = row.astype(np.float64) - np.logaddexp.reduce(row.astype(np.float64))
    score = RowScores(row, top).of(token)
    assert score.logprob == pytest.approx(expected[token], abs=1e-4)
    assert [each for each, _ in score.top] == np.argsort(-row, kind="stable")[:top].tolist()
    assert [logprob for _, logprob in score.top] == pytest.approx(expected[[each for each, _ in score.top]], abs=1e-4)


def test_log_probabilities_are_the_models_alone_whatever_changes_the_choice():
    row = logits_of(1)
    plain = RowScores(row[0].copy(), 3)
    params = SamplingParams(1, 0.0, logit_bias=((7, 100.0),), logprobs=3)
    draw = Draw(params, 5, LogitsProcessors.of(params, [1, 2]), mask_of(np.arange(VOCAB) != 8))
    assert choose(row[0], draw) == Choice(7, plain.of(7))


def test_an_impossible_token_has_a_finite_log_probability():
    row = np.array([0.0, -np.inf, 1.0], dtype=np.float32)
    assert RowScores(row, 3).of(1).logprob == -9999.0


def test_a_prompts_scores_begin_with_a_token_that_nothing_predicts():
    logits, prompt = logits_of(2, 4), [5, 6, 7, 8, 9]
    scores = [*score_chunk(logits[:3], prompt, 0, 1), *score_chunk(logits[3:], prompt, 3, 1)]
    assert [score.token for score in scores] == prompt
    assert scores[0] == TokenScore(5, None)
    assert scores[1:] == [RowScores(row, 1).ranked(token) for row, token in zip(logits, prompt[1:], strict=True)]
    assert score_chunk(logits[:1], [5], 0, 1) == (TokenScore(5, None),)


@given(st.lists(st.booleans(), min_size=VOCAB, max_size=VOCAB))
@settings(max_examples=20)
def test_a_mask_leaves_exactly_what_it_allows(bits):
    allowed = np.array(bits)
    row, before = logits_of(3)[0], logits_of(3)[0]
    apply_mask(row, mask_of(allowed))
    assert np.array_equal(row[allowed], before[allowed])
    assert (row[~allowed] == -np.inf).all()


def test_a_prompts_token_has_its_rank_of_equal_ones_by_id():
    row = np.array([1.0, 3.0, 2.0, 3.0, 2.0, -np.inf], dtype=np.float32)
    ranks = [RowScores(row, 6).ranked(token).rank for token in range(row.size)]
    assert ranks == [5, 1, 3, 2, 4, 6]
    assert [token for token, _ in RowScores(row, 6).of(0).top] == [1, 3, 2, 4, 0, 5]


def chosen_with(params: SamplingParams, answer: list[int], row: np.ndarray, mask: np.ndarray | None = None) -> int:
    processors = LogitsProcessors.of(params, [1], answer)
    return choose(row.copy(), Draw(params, 1 + len(answer), processors, mask)).token


def test_a_bad_word_is_forbidden_only_where_its_last_token_would_complete_it_in_the_answer():
    params = SamplingParams(9, 0.0, bad_words=((1, 4, 5), (6,)))
    row = logits_of(4)[0]
    row[5], row[6] = 50.0, 60.0
    assert chosen_with(params, [], row) == 5
    assert chosen_with(params, [4], row) == 5, "the prompt's token 1 is no part of the answer"
    assert chosen_with(params, [1, 4], row) not in {5, 6}
    assert chosen_with(params, [1, 4, 7], row) == 5


def test_what_leaves_nothing_to_choose_counts_for_nothing():
    params = SamplingParams(
        9, 0.0, eos_token_ids=(3,), min_tokens=5, allowed_token_ids=(3, 4), bad_words=((4,), (8, 3))
    )
    row = logits_of(4)[0]
    assert chosen_with(params, [], row) == 3, "the ending token is all that allowed tokens and bad words leave"
    assert chosen_with(params, [8], row) in {3, 4}, "no allowed token is left by the bad words"
    assert chosen_with(params, [], row, mask_of(np.arange(VOCAB) == 9)) == 9, "the grammar wins"


def test_no_ending_token_is_chosen_before_min_tokens_unless_the_grammar_allows_nothing_else():
    params = SamplingParams(9, 0.0, eos_token_ids=(3,), stop_token_ids=(5,), min_tokens=2)
    row = logits_of(4)[0]
    row[[3, 5]] = 50.0
    assert chosen_with(params, [7], row) not in {3, 5}
    assert chosen_with(params, [7, 7], row) == 3
    assert chosen_with(params, [7], row, mask_of(np.arange(VOCAB) == 3)) == 3
