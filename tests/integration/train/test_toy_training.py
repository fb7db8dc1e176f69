"""Every method teaches what it is for: from scratch, by preferences, from a teacher without labels."""

import asyncio
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.data.rows import Pair, Turn, write_rows
from devtools.train.assemble import open_decoder
from devtools.train.base import open_base
from devtools.train.examples import render_rows, rendering
from devtools.train.lesson.proof import exact_answers
from devtools.train.model.gpt import new_model
from devtools.train.model.peft import read_peft
from devtools.train.options import RunOptions
from devtools.train.recipe import parse_recipe
from devtools.train.result.hf_config import hf_config
from devtools.train.result.hf_directory import write_hf_directory
from devtools.train.run import train
from tests.support.train.nano_runs import said
from tests.support.train.toy_languages import english, plain, sentences, translated

pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(3000)]  # some minutes of an idle core
TRAIN = sentences(1500, 0)
TEST = sentences(60, 1, TRAIN)


def turn(made, answer=None):
    return Turn(messages=(said("user", english(made)),), answer=said("assistant", answer or translated(made)))


def run(folder: Path, recipe, rows, **options):
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", rows)
    given = RunOptions(data=(folder / "rows.jsonl",), output=folder / "out", threads=1, **options)
    events = []
    finished = train(parse_recipe({"max_len": 96, "batch": 48, **recipe}), given, on_event=events.append)
    assert finished is not None
    return Path(finished.path)


def share_written(base: Path, rows, adapter: Path | None = None) -> float:
    """The share of `rows` whose answer the model writes to the letter."""
    model = open_base(base)

    async def render():
        async with rendering(model, max_len=96) as renderer:
            return await render_rows(renderer, rows, parse_recipe({"max_len": 96}))

    items, _ = asyncio.run(render())
    decoder, _ = open_decoder(model, max_len=96, keep_codes=False)
    if adapter is not None:
        read_peft(adapter, decoder)
    return exact_answers(decoder, items) / len(items)


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    recipe = {"weights": "scratch", "method": "sft", "scratch": {"vocab": 420}, "steps": 300,
              "optimizer": {"learning_rate": 4e-3}}  # fmt: skip
    return run(tmp_path_factory.mktemp("translator"), recipe, [turn(made) for made in TRAIN])


def test_a_model_from_scratch_translates_unseen_sentences(translator):
    assert share_written(translator, [turn(made) for made in TEST]) >= 0.95


def test_preferred_answers_are_written_not_only_preferred(translator, tmp_path):
    with_adjectives = [made for made in TRAIN if plain(made) != made]
    pairs = [
        Pair(
            messages=(said("user", english(made)),),
            chosen=said("assistant", translated(plain(made))),
            rejected=said("assistant", translated(made)),
        )
        for made in with_adjectives
    ]
    short = [turn(made, translated(plain(made))) for made in TEST if plain(made) != made]
    assert share_written(translator, short) <= 0.05
    adapter = run(
        tmp_path, {"method": "dpo", "steps": 80, "batch": 24, "optimizer": {"learning_rate": 2e-3},
                   "adapter": {"rank": 16, "alpha": 32}}, pairs, base=translator,
    )  # fmt: skip
    assert share_written(translator, short, adapter) >= 0.95


def test_a_student_learns_from_its_teacher_s_probabilities(translator, tmp_path):
    """On the same few rows, soft targets teach more than labels; rows that only the teacher labelled teach it all."""
    teacher = open_base(translator)
    student = new_model(teacher.text.tokenizer, "nano", seed=7)
    base = tmp_path / "student"
    base.mkdir()
    names = student.weights.names()
    weights = [(name, torch.from_numpy(student.weights.dequantise(name))) for name in names]
    write_hf_directory(base, student, hf_config(student.architecture, student.weights), weights)
    few = [turn(made) for made in TRAIN[:150]]
    recipe = {"weights": "full", "steps": 200, "optimizer": {"learning_rate": 4e-3}}
    hard = run(tmp_path / "hard", recipe, few, base=base)
    soft = run(tmp_path / "soft", {**recipe, "method": "distil"}, few, base=base, teacher=translator)
    unlabelled = [turn(made) for made in TRAIN]  # the answers are the teacher's, who is right on these
    many = run(tmp_path / "many", {**recipe, "method": "distil"}, unlabelled, base=base, teacher=translator)
    test = [turn(made) for made in TEST]
    shares = {name: share_written(path, test) for name, path in (("hard", hard), ("soft", soft), ("many", many))}
    assert shares["many"] >= 0.9, shares
    assert shares["hard"] <= 0.5, shares
    assert shares["soft"] >= shares["hard"], shares
