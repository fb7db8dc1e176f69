"""Small models that really learn: a text from scratch, a translation, a preference, a teacher's answers.

Each takes less than a minute of one processor. What they hold is what is asserted: the share of unseen sentences that
are written right, or the perplexity beside that of counting letters.
"""

import math
import os
from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

import asyncio
import itertools

from devtools.data.rows import Text, write_rows
from devtools.train.assemble import open_decoder
from devtools.train.base import open_base
from devtools.train.model.gpt import new_model
from devtools.train.options import CheckpointInterval, RunOptions
from devtools.train.recipe import parse_recipe
from devtools.train.result.hf_config import hf_config
from devtools.train.result.hf_directory import write_hf_directory
from devtools.train.run import train
from shared.text.tokenizer import Tokenizer
from tests.support.models.smollm2 import xsum_articles
from tests.support.train.toy_language import answers, prefers_short, sentences, translated, turn

LONG = pytest.mark.skipif("LLMOS_TEST_LONG" not in os.environ, reason="takes minutes: set LLMOS_TEST_LONG=1")
pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(1800), LONG]
COMPUTE = {"precision": "float32", "micro_tokens": 4096}
KNOWN = sentences(3000)
UNSEEN = sentences(100, seed=1, without=KNOWN)


def trained(folder, recipe, rows, **options):
    """The folder with what a run leaves."""
    folder.mkdir()
    write_rows(folder / "rows.jsonl", rows)
    given = RunOptions(
        data=(folder / "rows.jsonl",), output=folder / "out", threads=1, result="model",
        interval=CheckpointInterval(seconds=3600), **options,
    )  # fmt: skip
    done = train(parse_recipe({"compute": COMPUTE, **recipe}), given, on_event=lambda _: None)
    assert done is not None
    return folder / "out" / "result"


def share_right(written, expected):
    return sum(one == other for one, other in zip(written, expected, strict=True)) / len(expected)


def trigram_perplexity(known: bytes, text: bytes) -> float:
    """Of a byte, by counts of three bytes, backed by those of two."""
    letters = len(set(known))
    one, two, three = (
        Counter(known),
        Counter(itertools.pairwise(known)),
        Counter(zip(known, known[1:], known[2:], strict=False)),
    )

    def pair(y, z):
        return (two[y, z] + 0.01) / (one[y] + 0.01 * letters)

    logs = [
        math.log((three[x, y, z] + 0.1 * pair(y, z)) / (two[x, y] + 0.1))
        for x, y, z in zip(text, text[1:], text[2:], strict=False)
    ]
    return math.exp(-sum(logs) / len(logs))


def test_a_model_from_scratch_knows_more_of_a_text_than_counts_of_three_letters(tmp_path):
    articles = xsum_articles(300)
    known, held_out = "\n\n".join(articles[:-10]), "\n\n".join(articles[-10:])
    recipe = {
        "method": "pretrain", "weights": "scratch", "steps": 400, "batch": 16, "max_len": 64,
        "optimizer": {"learning_rate": 4e-3, "weight_decay": 0.1}, "scratch": {"vocab": 320},
    }  # fmt: skip
    rows = [Text(text=article) for article in articles[:-10] if article.strip()]
    opened = open_base(trained(tmp_path / "run", recipe, rows))
    decoder, _ = open_decoder(opened, max_len=128, keep_codes=False)
    ids = Tokenizer(opened.text.tokenizer.to_str()).encode(held_out)
    loss = 0.0
    with torch.no_grad():
        for at in range(0, len(ids) - 1, 63):
            window = torch.tensor([ids[at : at + 64]])
            loss += torch.nn.functional.cross_entropy(decoder(window)[0, :-1], window[0, 1:], reduction="sum").item()
    perplexity = math.exp(loss / len(held_out.encode()))
    counted = trigram_perplexity(known.encode(), held_out.encode())
    assert 2 < perplexity < 0.9 * counted, (perplexity, counted)


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """A model from scratch that translates."""
    recipe = {
        "method": "sft", "weights": "scratch", "steps": 260, "batch": 48, "max_len": 64,
        "optimizer": {"learning_rate": 4e-3, "weight_decay": 0.01}, "scratch": {"vocab": 560},
    }  # fmt: skip
    return trained(tmp_path_factory.mktemp("teacher") / "run", recipe, [turn(one) for one in KNOWN])


async def test_a_model_from_scratch_translates_unseen_sentences(translator):
    right = share_right(await answers(translator, UNSEEN), [translated(one) for one in UNSEEN])
    assert right >= 0.95, right


async def test_a_preference_is_written_not_only_preferred(tmp_path, translator):
    """DPO's own accuracy is 100 % long before a model writes what it prefers: the NLL term is for that."""
    recipe = {
        "method": "dpo", "steps": 100, "batch": 24, "max_len": 64, "optimizer": {"learning_rate": 2e-3},
        "adapter": {"rank": 16, "alpha": 32.0}, "dpo": {"beta": 0.1, "nll": 1.0},
    }  # fmt: skip
    asked = [one for one in UNSEEN if one[0][0] or one[2][0]]
    short = [translated(one, short=True) for one in asked]
    assert share_right(await answers(translator, asked), short) < 0.05
    rows = [prefers_short(one) for one in KNOWN[:1500] if one[0][0] or one[2][0]]
    result = await asyncio.to_thread(trained, tmp_path / "run", recipe, rows, base=translator)
    right = share_right(await answers(result, asked), short)
    assert right >= 0.95, right


async def test_a_student_learns_from_its_teachers_answers_what_few_labels_do_not_teach(tmp_path, translator):
    teacher = open_base(translator)
    student = new_model(teacher.text.tokenizer, "nano", seed=7)
    base = tmp_path / "student"
    base.mkdir()
    names = student.weights.names()
    write_hf_directory(
        base, student, hf_config(student.architecture, student.weights),
        ((name, torch.from_numpy(student.weights.dequantise(name))) for name in names),
    )  # fmt: skip
    recipe = {
        "weights": "full", "steps": 200, "batch": 48, "max_len": 64,
        "optimizer": {"learning_rate": 4e-3, "weight_decay": 0.01},
    }  # fmt: skip
    expected = [translated(one) for one in UNSEEN]
    labelled = [turn(one) for one in KNOWN[:30]]
    hard = await asyncio.to_thread(trained, tmp_path / "hard", {"method": "sft", **recipe}, labelled, base=base)
    few = share_right(await answers(hard, UNSEEN), expected)
    unlabelled = KNOWN[:600]
    answered = [turn(one, text) for one, text in zip(unlabelled, await answers(translator, unlabelled), strict=True)]
    soft = await asyncio.to_thread(
        trained, tmp_path / "soft", {"method": "distil", **recipe}, answered, base=base, teacher=translator
    )
    right = share_right(await answers(soft, UNSEEN), expected)
    assert few <= 0.2, few
    assert right >= 0.9, right
