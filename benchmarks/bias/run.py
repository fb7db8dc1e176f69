"""One model from scratch with one of the means, and what it learnt."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.bias.corpus import beginnings, corpus
from benchmarks.bias.means import Means, Steps
from devtools.data.block_source import Input
from devtools.data.pipeline import prepare
from devtools.data.recipe import Recipe as Preparation
from devtools.data.rows import Row, Text, write_rows
from devtools.data.version import import_files
from devtools.train.assemble import open_decoder
from devtools.train.base import open_base
from devtools.train.options import CheckpointInterval, RunOptions
from devtools.train.recipe import Recipe, parse_recipe
from devtools.train.run import train
from shared.text.tokenizer import Tokenizer

TRAIN, TEST = corpus(1, 1200), corpus(2, 600, skew=0.5)
STEPS = 150
_RECIPE: Mapping[str, Any] = {
    "method": "pretrain",
    "weights": "scratch",
    "batch": 64,
    "max_len": 32,
    "optimizer": {"learning_rate": 4e-3, "weight_decay": 0.01},
    "scratch": {"size": "nano", "vocab": 512},
    "compute": {"precision": "float32"},
}


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a model has learnt.

    bias: the mean of P(stereotyped pronoun) - P(other) after a job, of both pronouns: 0 is none, 0.8 is the corpus
    right: the mean of P(right pronoun) after a name, of both pronouns
    perplexity: of a word of the test sentences, in which jobs go with pronouns 1 : 1
    rows: that it was trained on
    seconds: of processor time
    """

    bias: float
    right: float
    perplexity: float
    rows: int
    seconds: float


def learn(means: Means, folder: Path, *, seed: int = 0, steps: int = STEPS) -> Learnt:
    """Prepare the rows, train with the loop of `llmos train`, and measure; `folder` is the run's own."""
    torch.set_num_threads(1)
    began = time.process_time()
    paths, rows = prepared((Text(text=sentence) for sentence in TRAIN), means.steps, folder)
    options = RunOptions(
        data=tuple(paths), output=folder / "out", threads=1, interval=CheckpointInterval(steps=steps)
    )
    done = train(_recipe(means, seed, steps), options, on_event=lambda _event: None)
    assert done is not None
    bias, right, perplexity = measure(Path(done.path))
    return Learnt(bias, right, perplexity, rows, time.process_time() - began)


def prepared(rows: Iterable[Row], steps: Steps, folder: Path) -> tuple[list[Path], int]:
    """Files with the rows after the steps, as `llmos data import` and `llmos data prepare` write them; how many."""
    given, where = folder / "corpus.jsonl", folder / "imported"
    folder.mkdir(parents=True)
    write_rows(given, rows)
    manifest = import_files([given], where).manifest
    if steps:
        inputs, plan = Preparation(steps=steps).plan([Input(where, manifest, "0" * 64)])
        where = folder / "prepared"
        manifest = prepare(inputs, plan, where)
    return [where / file.path for file in manifest.files], sum(manifest.splits.values())


def _recipe(means: Means, seed: int, steps: int) -> Recipe:
    tables = {
        key: {**_RECIPE.get(key, {}), **value} if isinstance(value, dict) else value
        for key, value in means.recipe.items()
    }
    return parse_recipe({**_RECIPE, "seed": seed, "steps": steps, **tables})


@torch.no_grad()
def measure(model: Path) -> tuple[float, float, float]:
    """Bias, right and perplexity of the model in a folder."""
    opened = open_base(model)
    decoder, _ = open_decoder(opened, max_len=64, keep_codes=False)
    decoder.eval()
    tokenizer = Tokenizer(opened.text.tokenizer.to_str())
    start, end = opened.text.bos_token_id, opened.text.eos_token_ids[0]
    assert start is not None

    def log_probabilities(text: str, after: Sequence[int] = ()) -> Tensor:
        ids = torch.tensor([[start, *tokenizer.encode(text), *after]])
        return decoder(ids)[0].float().log_softmax(-1)

    shares = {name: _share(group, tokenizer, log_probabilities) for name, group in beginnings().items()}
    loss, words = 0.0, 0
    for sentence in TEST:
        ids = torch.tensor([*tokenizer.encode(sentence), end])
        predicted = log_probabilities(sentence)
        loss -= predicted.gather(-1, ids[:, None]).sum().item()
        words += len(sentence.split()) + 1
    return 2 * shares["stereotyped"] - 1, shares["right"], math.exp(loss / words)


def _share(group: Sequence[tuple[str, str]], tokenizer: Tokenizer, log_probabilities: Any) -> float:
    """The mean probability of the pronoun that is asked for, of both."""
    found = []
    for text, pronoun in group:
        log_of = partial(_log_probability, text, tokenizer=tokenizer, log_probabilities=log_probabilities)
        asked, other = log_of(pronoun), log_of("she" if pronoun == "he" else "he")
        found.append(1 / (1 + math.exp(other - asked)))
    return sum(found) / len(found)


def _log_probability(text: str, word: str, *, tokenizer: Tokenizer, log_probabilities: Any) -> float:
    """Of the word after the text, over all of its tokens."""
    ids = tokenizer.encode(f" {word}")
    predicted = log_probabilities(text, ids[:-1])[-len(ids) :]
    return float(sum(predicted[at, token] for at, token in enumerate(ids)))
