"""Models from scratch: their sizes, their tokenizer, and that they learn."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.convert import convert_hf
from devtools.data.rows import Text
from devtools.train.assemble import open_decoder
from devtools.train.base import open_base
from devtools.train.model.gpt import SIZES, new_model, train_tokenizer
from devtools.train.progress import Validated
from shared.errors import InvalidInput
from tests.support.train.nano_runs import nano_run, texts

pytestmark = pytest.mark.train
SCRATCH = {"weights": "scratch", "method": "pretrain", "scratch": {"vocab": 300}}


@pytest.mark.parametrize(("size", "vocab", "millions"), [("nano", 2048, 1), ("micro", 2048, 4), ("small", 8192, 30)])
def test_sizes_have_about_the_parameters_they_promise(size, vocab, millions):
    layers, hidden, _, wide = SIZES[size]
    parameters = vocab * hidden + layers * (4 * hidden * hidden + 3 * hidden * wide)
    assert parameters / 1e6 == pytest.approx(millions, rel=0.15)


def test_the_tokenizer_is_learnt_from_the_rows():
    tokenizer = train_tokenizer(["the fox ran home"] * 50, 300)
    assert tokenizer.get_vocab_size() <= 300
    assert len(tokenizer.encode("the fox").ids) < len(tokenizer.encode("xylophone").ids)
    for text in ("ünïcödé 你好 👍🏽", "tabs\tand\nlines"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert [tokenizer.id_to_token(number) for number in range(3)] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def test_a_new_model_knows_nothing_yet():
    model = new_model(train_tokenizer(["abc"], 300), "nano", seed=0)
    decoder, error = open_decoder(model, max_len=64, keep_codes=False)
    with torch.no_grad():
        ids = torch.randint(0, 259, (4, 40))
        loss = torch.nn.functional.cross_entropy(decoder(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert error < 1e-5
    assert loss.item() == pytest.approx(math.log(model.architecture.vocab_size), rel=0.05)


def test_a_model_learns_from_scratch_and_is_imported(tmp_path):
    recipe = SCRATCH | {"steps": 12, "optimizer": {"learning_rate": 3e-3}, "validation": {"share": 0.2, "every": 6}}
    run = nano_run(tmp_path, recipe, rows=texts(60), base=None)
    losses = [event.val_loss for event in run.events if isinstance(event, Validated)]
    assert losses[-1] < run.losses[0] - 1
    manifest = convert_hf(run.folder / "result", tmp_path / "version", quantize="none")
    assert manifest.decoder.eos_token_ids == (0, 2)
    assert manifest.decoder.bos_token_id == 0
    model = open_base(run.folder / "result")
    assert "<|im_start|>" in model.text.chat_template


def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="takes no base"):
        nano_run(tmp_path / "a", SCRATCH)
    with pytest.raises(InvalidInput, match="needs a model to start from"):
        nano_run(tmp_path / "b", base=None)
    with pytest.raises(InvalidInput, match="max_len is 4096, and this model takes 512 tokens"):
        nano_run(tmp_path / "c", {"max_len": 4096})


def test_a_teacher_must_speak_the_same_tokens(tmp_path):
    other = nano_run(tmp_path / "teacher", SCRATCH, rows=[Text(text="the fox")] * 8, base=None)
    with pytest.raises(InvalidInput, match="different tokenizers"):
        nano_run(tmp_path / "student", {"method": "distil"}, teacher=other.folder / "result")
    with pytest.raises(InvalidInput, match="go together"):
        nano_run(tmp_path / "alone", {"method": "distil"})
