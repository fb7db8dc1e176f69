"""The losses, against their formulas written out."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.train.batches import alone
from devtools.train.model.attention import Places
from devtools.train.objective.losses import (
    distillation,
    log_probabilities,
    negative_log_likelihood,
    preference,
    symmetric_divergence,
)
from devtools.train.objective.marks import Marker
from devtools.train.objective.word_pairs import Adversary, equalising_loss
from devtools.train.recipe.tables import Equalise
from shared.errors import InvalidInput, TrainingDiverged
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_tokenizers import byte_level
from tests.support.train.nano_runs import connected, merged, nano_run, said, turns

pytestmark = pytest.mark.train
LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 3.0, 1.0]])
OTHER = torch.tensor([[1.0, 1.0, 0.0], [0.5, 2.0, -1.0]])
FOLLOWING = torch.tensor([0, 2])


def softmax(row):
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


P = [softmax(row) for row in LOGITS.tolist()]
Q = [softmax(row) for row in OTHER.tolist()]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_negative_log_likelihood_is_the_sum_of_minus_log_p():
    expected = -math.log(P[0][0]) - math.log(P[1][2])
    assert negative_log_likelihood(LOGITS, FOLLOWING).item() == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_shares_out_probability():
    def smoothed(p, right):
        return -sum((0.9 * (token == right) + 0.1 / 3) * math.log(share) for token, share in enumerate(p))

    expected = smoothed(P[0], 0) + smoothed(P[1], 2)
    assert negative_log_likelihood(LOGITS, FOLLOWING, smoothing=0.1).item() == pytest.approx(expected, rel=1e-6)


def test_the_divergence_of_two_passes_is_symmetric():
    expected = sum((kl(p, q) + kl(q, p)) / 2 for p, q in zip(P, Q, strict=True))
    assert symmetric_divergence(LOGITS, OTHER).item() == pytest.approx(expected, rel=1e-5)
    assert symmetric_divergence(LOGITS, LOGITS).item() == pytest.approx(0, abs=1e-7)


def test_distillation_is_the_divergence_from_the_teacher_at_a_temperature():
    soft = [softmax([value / 2 for value in row]) for row in LOGITS.tolist()]
    teacher = [softmax([value / 2 for value in row]) for row in OTHER.tolist()]
    expected = 4 * sum(kl(t, s) for t, s in zip(teacher, soft, strict=True))
    assert distillation(LOGITS, OTHER, temperature=2.0).item() == pytest.approx(expected, rel=1e-5)


def test_preference_is_minus_log_sigmoid_of_the_margin():
    chosen, rejected = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -1.5])
    before = (torch.tensor([-1.5, -2.0]), torch.tensor([-2.5, -1.0]))
    margins = [(-1 + 1.5) - (-3 + 2.5), (-2 + 2) - (-1.5 + 1)]
    expected = -sum(math.log(1 / (1 + math.exp(-0.1 * margin))) for margin in margins)
    assert preference(chosen, rejected, before, beta=0.1).item() == pytest.approx(expected, rel=1e-6)


def test_log_probabilities_are_added_up_for_each_example():
    both = log_probabilities(torch.cat([LOGITS, LOGITS]), torch.tensor([0, 2, 1, 1]), torch.tensor([0, 1, 1, 0]), 2)
    expected = [math.log(P[0][0]) + math.log(P[1][1]), math.log(P[1][2]) + math.log(P[0][1])]
    assert both.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_a_step_is_that_of_each_answer_token_given_those_before(tmp_path):
    """On the whole decoder: every answer token, no prompt token, each predicted from the tokens before it alone."""
    run = connected(tmp_path, {})
    decoder, items = run.decoder.eval(), run._inputs.items[:5]
    total, tokens = 0.0, 0
    with torch.no_grad():
        for (example,) in items:
            ids = torch.from_numpy(example.ids).long()
            for t in range(example.start, len(ids)):
                before = ids[None, :t]
                states = decoder.hidden(decoder.embed(before), Places(torch.arange(t)[None]))
                p = softmax(decoder.head(states)[0, -1].tolist())
                total -= math.log(p[int(ids[t])])
                tokens += 1
        batch = alone([example for item in items for example in item])
        loss = run._objective(batch, run._objective.count(items)).item()
    assert loss == pytest.approx(total / tokens, rel=1e-5)


def test_dpo_starts_from_log_two_and_the_likelihood_of_the_chosen(tmp_path):
    """Before the first step the model is its own reference: every margin is 0."""
    run = connected(tmp_path, {"method": "dpo", "dpo": {"nll": 0.0}})
    with torch.no_grad():
        items = run._inputs.items[:4]
        batch = alone([example for item in items for example in item])
        assert run._objective(batch, run._objective.count(items)).item() == pytest.approx(math.log(2), rel=1e-5)


def test_dpo_prefers_the_chosen_answers(tmp_path):
    recipe = {"method": "dpo", "steps": 30, "optimizer": {"learning_rate": 5e-3}}
    run = nano_run(tmp_path, recipe)
    assert run.losses[-1] < run.losses[0] - 1
    alone = nano_run(tmp_path / "alone", merged(recipe, {"dpo": {"nll": 0.0}}))
    assert alone.losses[0] == pytest.approx(math.log(2), rel=1e-4)
    assert alone.losses[-1] < 0.3


@pytest.fixture
def marker():
    tokenizer = Tokenizer(byte_level())
    return tokenizer, lambda **table: Marker(Equalise(weight=1.0, **table), tokenizer)


def test_marks_are_where_one_of_the_words_is_learnt(tmp_path, marker):
    tokenizer, make = marker
    run = connected(tmp_path, {})
    found = make(words=(("r", "f"), ("d", "n")))
    for (example,) in run._inputs.items:
        ids = {tokenizer.encode(word)[0]: (pair, side) for pair, words in enumerate((("r", "f"), ("d", "n")))
               for side, word in enumerate(words)}  # fmt: skip
        expected = [
            (at, *ids[token]) for at, token in enumerate(example.ids.tolist()) if at >= example.start and token in ids
        ]
        assert [(mark.position, mark.pair, mark.side) for mark in found.of(example)] == expected


def test_marks_only_in_rows_with_a_word(tmp_path, marker):
    tokenizer, make = marker
    run = connected(tmp_path, {})
    found = make(words=(("r", "f"),), among=("dog",))
    for (example,) in run._inputs.items:
        text = tokenizer.decode(example.ids.tolist())
        assert bool(found.of(example)) <= ("dog" in text)
    assert any(found.of(example) for (example,) in run._inputs.items)


def test_words_of_several_tokens_are_refused(marker):
    _, make = marker
    with pytest.raises(InvalidInput, match="'elephant' and 'crocodile' are not one token each"):
        make(words=(("elephant", "crocodile"),))


def test_the_equalising_loss_is_the_difference_of_two_log_probabilities(tmp_path, marker):
    _, make = marker
    (mark, *_) = next(m for (e,) in connected(tmp_path, {})._inputs.items if (m := make(words=(("r", "f"),)).of(e)))
    logits = torch.randn(3, 400)
    first, second = (logits[1].log_softmax(-1)[token].item() for token in mark.tokens)
    assert equalising_loss(logits, [(1, mark)]).item() == pytest.approx(abs(first - second), rel=1e-5)


def test_the_adversary_learns_and_the_model_gets_its_gradient_reversed(tmp_path, marker):
    _, make = marker
    (mark, *_) = next(m for (e,) in connected(tmp_path, {})._inputs.items if (m := make(words=(("r", "f"),)).of(e)))
    adversary = Adversary(8, 1, torch.Generator().manual_seed(0))
    states = torch.randn(2, 8, requires_grad=True)
    adversary(states, [(1, mark)], weight=2.0).backward()
    reversed_gradient, own = states.grad[1].clone(), adversary.weight.grad.clone()
    target = torch.tensor([float(mark.side)])
    plain = torch.nn.functional.binary_cross_entropy_with_logits(
        states[1:2].detach().requires_grad_() @ adversary.weight[0] + adversary.bias[0], target
    )
    (expected_own,) = torch.autograd.grad(plain, adversary.weight)
    torch.testing.assert_close(own, expected_own)
    certainty = torch.sigmoid(states[1].detach() @ adversary.weight[0].detach()) - target
    if plain.item() < 0.7:
        torch.testing.assert_close(reversed_gradient, -2.0 * certainty * adversary.weight[0].detach())
    else:
        assert not reversed_gradient.any()
    assert not states.grad[0].any()


@pytest.mark.parametrize("rate", [1e20])
def test_a_loss_that_is_not_a_number_ends_the_run_with_step_and_row(tmp_path, rate):
    with pytest.raises(
        TrainingDiverged, match=r"the (loss|gradient) is not a number at step [2-4], row [0-9a-f]{32}"
    ):
        nano_run(tmp_path, {"optimizer": {"learning_rate": rate}, "schedule": {"kind": "constant", "warmup": 0.0}})


def test_the_row_that_has_no_loss_is_named(tmp_path, monkeypatch):
    rows = turns(12)
    odd = rows[5].model_copy(update={"messages": (said("user", "ü"),)})
    run = connected(tmp_path, {"batch": 12}, rows=[*rows[:5], odd, *rows[6:]])
    token = Tokenizer(run._inputs.model.text.tokenizer.to_str()).encode("ü")[0]
    embed = run.decoder.embed
    monkeypatch.setattr(
        run.decoder, "embed", lambda ids: embed(ids).masked_fill((ids == token)[..., None], float("nan"))
    )
    before = {name: values.clone() for name, values in run.decoder.state_dict().items()}
    with pytest.raises(TrainingDiverged) as caught:
        run._stepper.step(0, lambda: False)
    assert f"the loss is not a number at step 1, row {odd.id};" in caught.value.message
    for name, values in run.decoder.state_dict().items():
        torch.testing.assert_close(values, before[name], rtol=0, atol=0)
