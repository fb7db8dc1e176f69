"""Preparation: the same rows in, the same digests out, wherever and in how many processes it runs."""

import random

import pytest

from devtools.data import row_file
from devtools.data.balance import Balance, Swap
from devtools.data.block_source import Input
from devtools.data.clean import Unicode
from devtools.data.executors import Here
from devtools.data.look import difference, rows_of, sample
from devtools.data.masking import Private
from devtools.data.near import Duplicates, NearDuplicates
from devtools.data.pipeline import Plan, prepare
from devtools.data.recipe import Recipe
from devtools.data.split import Split
from devtools.data.version import import_files
from shared.errors import InvalidInput

DIGEST = "ab" * 32


@pytest.fixture
def version(jsonl, chat, tmp_path):
    """A version of random conversations, some of them twice or nearly, some with defects."""

    def make(name: str = "support", rows: int = 300, seed: int = 0) -> Input:
        random_ = random.Random(seed)
        words = [f"{letter}{n}" for letter in "abcdefgh" for n in range(40)]
        said = [" ".join(random_.choices(words, k=25)) for _ in range(rows)]
        said += [f"{text} again" for text in said[:30]] + said[30:40]
        said += ["he asked ann@firm.org\x00 for a name", "the nurse said she", "the nurse said he", "the nurse: she"]
        path = jsonl(*(chat(text, f"answer to {text[:20]}", "and", "so") for text in said), name=f"{name}.jsonl")
        folder = tmp_path / name
        return Input(folder, import_files([path], folder).manifest, DIGEST)

    return make


STEPS = [
    Unicode(),
    Private(),
    Duplicates(),
    NearDuplicates(0.7),
    Swap(("gender",)),
    Duplicates(),
    Balance(("nurse",)),
]
PLAN = Plan(STEPS, Split(validation=0.1))


@pytest.fixture
def small_blocks(monkeypatch):
    """Many blocks of few rows: the result must not depend on where they are cut."""
    monkeypatch.setattr(row_file, "BLOCK_BYTES", 10_000)


def test_the_digest_is_the_same_with_one_and_four_processes_and_in_other_blocks(version, tmp_path, monkeypatch):
    given = version()
    whole = prepare([given], PLAN, tmp_path / "whole")
    monkeypatch.setattr(row_file, "BLOCK_BYTES", 10_000)
    one = prepare([given], PLAN, tmp_path / "one", executor=Here(1))
    four = prepare([given], PLAN, tmp_path / "four", executor=Here(4))
    assert whole == one == four
    assert (tmp_path / "four" / "train-00000.jsonl").read_bytes() == (
        tmp_path / "one" / "train-00000.jsonl"
    ).read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_steps_are_recorded_with_what_they_did(version, tmp_path, small_blocks):
    manifest = prepare([version()], PLAN, tmp_path / "out")
    names = ["unicode", "private", "duplicates", "near-duplicates", "swap", "duplicates", "balance", "split"]
    assert [step.name for step in manifest.steps] == names
    steps = {step.name: step for step in reversed(manifest.steps)}
    assert steps["unicode"].changed == 2  # both turns of the conversation
    assert steps["private"].changed == 2
    assert steps["duplicates"].rows_in - steps["duplicates"].rows_out == 20
    assert steps["near-duplicates"].parameters == {"threshold": 0.7}
    assert steps["near-duplicates"].rows_in - steps["near-duplicates"].rows_out == 60
    assert len(steps["near-duplicates"].dropped) == 5
    assert steps["swap"].rows_out > steps["swap"].rows_in
    assert manifest.steps[5].rows_in - manifest.steps[5].rows_out == 4, "copies that equal a row which was there"
    assert manifest.parents == (DIGEST,)
    assert manifest.row_count == steps["split"].rows_out
    assert not [finding for finding in manifest.findings if finding.kind in {"duplicate", "personal_data.email"}]


def test_rows_of_a_group_are_in_one_split(version, tmp_path, small_blocks):
    manifest = prepare([version()], PLAN, tmp_path / "out")
    groups = {
        split: {row.group for row in rows_of(tmp_path / "out", manifest, split)} for split in ("train", "validation")
    }
    assert groups["train"]
    assert groups["validation"]
    assert not groups["train"] & groups["validation"]


def test_rows_stay_in_their_split_when_others_come(version, tmp_path):
    plan = Plan([], Split(validation=0.2))
    few, many = version(rows=100), version("more", rows=300)
    first = prepare([few], plan, tmp_path / "first")
    second = prepare([few, many], plan, tmp_path / "second")
    held_out = {row.id for row in rows_of(tmp_path / "first", first, "validation")}
    assert held_out <= {row.id for row in rows_of(tmp_path / "second", second, "validation")}


def test_a_share_of_another_dataset_is_mixed_in(version, tmp_path):
    one, other = version("one"), version("other", seed=1)
    share = Input(other.folder, other.manifest, "cd" * 32, 0.25)
    manifest = prepare([one, share], Plan(), tmp_path / "out")
    (mixed,) = [step for step in manifest.steps if step.name == "mix"]
    assert mixed.parameters == {"dataset": "cd" * 32, "share": 0.25}
    assert mixed.rows_in == other.manifest.row_count
    assert 0.18 < mixed.rows_out / mixed.rows_in < 0.32
    assert manifest.row_count == one.manifest.row_count + mixed.rows_out
    assert manifest.parents == (DIGEST, "cd" * 32)


def test_datasets_of_two_kinds_and_steps_that_leave_nothing_are_refused(version, jsonl, tmp_path):
    folder = tmp_path / "texts"
    texts = Input(folder, import_files([jsonl({"text": "a"})], folder).manifest, DIGEST)
    with pytest.raises(InvalidInput, match="two kinds"):
        prepare([version(rows=3), texts], Plan(), tmp_path / "out")
    recipe = Recipe.parse('[[step]]\nname = "length"\nmin_characters = 99')
    with pytest.raises(InvalidInput, match="no row"):
        prepare(*recipe.plan([texts]), tmp_path / "nothing")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_sample_depends_on_its_seed(version):
    given = version()
    rows = sample(given.folder, given.manifest, 5, seed=1)
    assert rows == sample(given.folder, given.manifest, 5, seed=1) != sample(given.folder, given.manifest, 5, seed=2)
    assert len({row.id for row in rows}) == 5
    assert sample(given.folder, given.manifest, 5, split="test") == []


def test_versions_differ_in_rows_whatever_their_order(version, tmp_path):
    given = version(rows=40)
    manifest = prepare([given], Plan([Private()], Split(validation=0.5)), tmp_path / "out")
    found = difference((given.folder, given.manifest), (tmp_path / "out", manifest), shown=1)
    assert (found.added, found.removed, found.same) == (2, 2, given.manifest.row_count - 2)
    assert "[EMAIL]" in found.first_added[0].messages[0].content
    assert "ann@firm.org" in found.first_removed[0].messages[0].content
