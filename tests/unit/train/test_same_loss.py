"""How a step is cut changes nothing: accumulation, padding and packing, with every method and every means."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.train.base import open_base
from devtools.train.batches import alone, epoch_order, items_of_step, make_batch
from devtools.train.examples import Example
from devtools.train.lines import Line, lay_out
from devtools.train.model.decoder import Decoder
from devtools.train.model.lora import adapted
from devtools.train.objective.counts import count
from tests.support.models.family_files import open_directory, write_directory
from tests.support.models.tiny_families import CONFIGS, random_weights
from tests.support.train.nano_runs import base, connected, merged, nano_run

pytestmark = pytest.mark.train


WHOLE = {"micro_tokens": 100_000, "packing": "no"}
"""A step in one micro-batch."""
CUTS = {"alone": {"micro_tokens": 1, "packing": "no"}, "packed": {"packing": "yes", "micro_tokens": 100_000}}


def gradient(folder, recipe, **compute):
    """The gradient of the first step as one vector, and its loss."""
    changed = merged({"optimizer": {"clip": 1e9}}, recipe, {"compute": compute})
    run = connected(folder, changed)
    with torch.no_grad():  # at its start B is zero, and so is the gradient of A
        for _, _, lora in adapted(run.decoder):
            lora.b.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    report = run._stepper.step(0, lambda: False)
    parts = [parameter.grad.flatten() for parameter in run.decoder.parameters() if parameter.requires_grad]
    return torch.cat(parts), report


def distance(one, other):
    """Of two vectors, over the length of the first."""
    return float((one - other).norm() / one.norm())


@pytest.mark.parametrize("weights", ["adapter", "full"])
@pytest.mark.parametrize("method", ["sft", "pretrain", "dpo"])
def test_accumulation_padding_and_packing_change_no_gradient(tmp_path, method, weights):
    recipe = {"method": method, "weights": weights}
    whole, report = gradient(tmp_path / "whole", recipe, **WHOLE)
    assert report.micro_batches == 1
    for name, compute in CUTS.items():
        other, cut_report = gradient(tmp_path / name, recipe, **compute)
        assert (cut_report.micro_batches == 8) == (name == "alone")
        assert cut_report.shape != report.shape
        assert distance(whole, other) <= 1e-6
        assert cut_report.loss == pytest.approx(report.loss, rel=1e-6)


def test_runs_that_are_cut_otherwise_end_with_the_same_weights(tmp_path):
    whole = nano_run(tmp_path / "whole", {"compute": WHOLE})
    for name, compute in CUTS.items():
        other = nano_run(tmp_path / name, {"compute": compute})
        assert other.losses == pytest.approx(whole.losses, rel=1e-6)
        first, second = whole.weights(), other.weights()
        vectors = [torch.cat([torch.from_numpy(tensors[key]).flatten() for key in sorted(first)])
                   for tensors in (first, second)]  # fmt: skip
        assert distance(*vectors) <= 1e-6


MEANS = {
    "smoothing": {"label_smoothing": 0.2},
    "fgm": {"fgm": 0.5},
    "equalise": {"equalise": {"weight": 0.5, "words": [["r", "f"]]}},
    "reverse": {"reverse": {"weight": 0.5, "words": [["r", "f"]], "among": ["o"]}},
}
"""Those that draw no random numbers."""


@pytest.mark.parametrize("means", MEANS)
def test_means_do_not_depend_on_how_a_step_is_cut(tmp_path, means):
    recipe = {"robust": MEANS[means]}
    whole, report = gradient(tmp_path / "whole", recipe, **WHOLE)
    plain, _ = gradient(tmp_path / "plain", {}, **WHOLE)
    assert distance(whole, plain) > 1e-3
    for name, compute in CUTS.items():
        other, cut_report = gradient(tmp_path / name, recipe, **compute)
        assert distance(whole, other) <= 2e-6
        assert cut_report.loss == pytest.approx(report.loss, rel=1e-6)


def test_a_mean_of_means_would_have_been_seen(tmp_path):
    """What many trainers do, to show that these tests can fail: the mean of the losses of micro-batches."""
    whole, _ = gradient(tmp_path / "whole", {}, **WHOLE)
    run = connected(tmp_path / "means", {})
    with torch.no_grad():
        for _, _, lora in adapted(run.decoder):
            lora.b.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    items = items_of_step(run._inputs.items, 0, seed=0, batch=8)
    for item in items:
        batch = alone(item)
        (run._objective(batch, count([item])) / len(items)).backward()
    means = torch.cat([parameter.grad.flatten() for parameter in run.decoder.parameters() if parameter.requires_grad])
    assert distance(whole, means) > 0.05


def example(length, row="r"):
    return Example(row, np.arange(length, dtype=np.int32), 1)


def test_every_item_is_seen_once_in_an_epoch_in_an_order_of_seed_and_epoch():
    items = [(example(3, str(number)),) for number in range(10)]
    seen = [item[0].row for step in range(5) for item in items_of_step(items, step, seed=1, batch=4)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == sorted(str(number) for number in range(10))
    assert seen[:10] != seen[10:]
    assert epoch_order(1, 0, 10) != epoch_order(2, 0, 10)
    assert epoch_order(0, 0, 5) == (2, 1, 4, 0, 3) or sorted(epoch_order(0, 0, 5)) == [0, 1, 2, 3, 4]


def lines_of(lengths, **options):
    items = [(example(length, str(number)),) for number, length in enumerate(lengths)]
    micro_batches = lay_out(items, **options)
    found = [example.row for lines in micro_batches for line in lines for example in line.examples]
    assert sorted(found) == sorted(item[0].row for item in items), "no item is cut or lost"
    return micro_batches


@pytest.mark.parametrize("packing", ["yes", "no"])
def test_no_micro_batch_is_too_large(packing):
    lengths = [3, 30, 7, 32, 5, 5, 40, 2, 16, 17]
    for lines in lines_of(lengths, tokens=64, packing=packing, length=32, share=False):
        batch = make_batch(lines)
        assert batch.ids.numel() <= 64 or len(batch.ids) == 1
        assert int(batch.learnt.sum()) == sum(e.answer_tokens for line in lines for e in line.examples)


def test_items_of_a_micro_batch_are_alike_in_length():
    micro_batches = lines_of([2, 60, 3, 61, 2, 62], tokens=190)
    assert [[line.length for line in lines] for lines in micro_batches] == [[62, 61, 60], [3, 2, 2]]


def test_lines_are_filled_and_never_too_long():
    (lines,) = lines_of([3, 30, 7, 32, 5, 5, 40, 2, 16, 17], tokens=1000, packing="yes", length=32, share=False)
    assert [line.length for line in lines] == [40, 32, 32, 32, 21]


def prompted(prompt, answer, row="r"):
    return Example(row, np.array([*prompt, *answer], np.int32), len(prompt))


def test_a_common_beginning_stands_once():
    prompt = [5, 6, 7, 8]
    items = [(prompted([*prompt, 10 + n], [90, 91], str(n)),) for n in range(3)]
    ((line,),) = lay_out(items, tokens=1000, packing="yes", length=100)
    assert (line.shared, line.length) == (4, 4 + 3 * 3)
    batch = make_batch([line])
    assert batch.ids[0, :4].tolist() == prompt
    assert batch.places.positions[0].tolist() == [0, 1, 2, 3, *[4, 5, 6] * 3]
    assert batch.targets.tolist() == [90, 91] * 3


def test_the_last_token_of_a_prompt_is_not_shared():
    """A pair has one prompt; the answers begin behind its last token, each in its place."""
    pair = (prompted([5, 6, 7], [90]), prompted([5, 6, 7], [91, 92]))
    ((line,),) = lay_out([pair], tokens=1000, packing="yes", length=100)
    assert line.shared == 2
    assert make_batch([line]).ids[0].tolist() == [5, 6, 7, 90, 7, 91, 92]


def test_packing_is_chosen_where_it_saves_tokens():
    alike = [(prompted(range(20), [50 + n], str(n)),) for n in range(4)]
    assert len(lay_out(alike, tokens=1000, packing="auto", length=100)[0]) == 1
    unlike = [(prompted(range(n, 20 + n), [50], str(n)),) for n in range(4)]
    assert len(lay_out(unlike, tokens=1000, packing="auto", length=100)[0]) == 4


@pytest.mark.parametrize("name", ["mistral", "gemma3", "llama3"])
def test_an_example_behind_a_shared_beginning_has_its_own_states(tmp_path, name):
    """Also where layers see a window of a few tokens only."""
    arch, source = open_directory(write_directory(tmp_path / "hf", CONFIGS[name], random_weights(CONFIGS[name])))
    decoder = Decoder(arch, source, max_len=64).eval()
    draw = np.random.default_rng(0)
    prompt = draw.integers(0, 96, 9)
    items = [(prompted([*prompt, n], draw.integers(0, 96, 3 + n), str(n)),) for n in range(4)]
    ((line,),) = lay_out(items, tokens=1000, packing="yes", length=100)
    assert line.shared == 9
    with torch.no_grad():
        together = make_batch([line])
        packed = together.before(decoder.hidden(decoder.embed(together.ids), together.places))
        at = 0
        for one in line.examples:
            own = alone([one])
            expected = own.before(decoder.hidden(decoder.embed(own.ids), own.places))
            torch.testing.assert_close(packed[at : at + len(expected)], expected, rtol=1e-4, atol=1e-4)
            at += len(expected)


def test_a_packed_token_sees_its_own_document_only(tmp_path):
    """Packed rows give the hidden states of rows alone, to the last digits."""
    model = open_base(base(tmp_path))
    decoder = Decoder(model.architecture, model.weights, max_len=64).eval()
    draw = np.random.default_rng(0)
    items = [(Example(str(n), draw.integers(0, 300, n, dtype=np.int32), 1),) for n in (9, 5, 12)]
    with torch.no_grad():
        together = make_batch([Line(tuple(item[0] for item in items))])
        packed = decoder.hidden(decoder.embed(together.ids), together.places)[0]
        at = 0
        for item in items:
            own = alone(item)
            expected = decoder.hidden(decoder.embed(own.ids), own.places)[0]
            torch.testing.assert_close(packed[at : at + len(item[0].ids)], expected, rtol=1e-5, atol=1e-5)
            at += len(item[0].ids)
