"""docs/training.md: attention and objective at the lines that it quotes, against their formulas written out."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.train.base import open_base
from devtools.train.examples import Example
from devtools.train.model.attention import Places, attend, attention_mask
from devtools.train.model.decoder import Decoder
from devtools.train.objective.losses import negative_log_likelihood
from tests.support.train.nano_runs import base

pytestmark = pytest.mark.train
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")


def softmax(scores):
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2)])
def test_attention_is_softmax_of_q_k_over_root_d_k_times_v(heads, kv_heads, window):
    length, d_k = 7, 8
    draw = np.random.default_rng(0)
    q = draw.standard_normal((1, heads, length, d_k))
    k, v = (draw.standard_normal((1, kv_heads, length, d_k)) for _ in range(2))
    places = Places(torch.arange(length)[None])
    mixed = attend(
        *(torch.from_numpy(x).float() for x in (q, k, v)),
        scale=1 / math.sqrt(d_k),
        mask=attention_mask(places, window),
    )
    for head in range(heads):
        keys, values = k[0, head * kv_heads // heads], v[0, head * kv_heads // heads]
        scores = q[0, head] @ keys.T / math.sqrt(d_k)
        for t in range(length):
            for other in range(length):
                if other > t or (window is not None and t - other >= window):
                    scores[t, other] = -np.inf
        expected = softmax(scores) @ values
        np.testing.assert_allclose(mixed[0, head].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_objective_is_minus_the_log_of_the_probability_of_the_text(tmp_path):
    """-log of the product of P(x_t | x_<t), each computed from a text that ends before x_t."""
    model = open_base(base(tmp_path))
    decoder = Decoder(model.architecture, model.weights, max_len=64).eval()
    ids = np.random.default_rng(0).integers(0, 300, 12).astype(np.int32)
    text = Example("r", ids, 1)
    probability = 1.0
    with torch.no_grad():
        for t in range(1, len(ids)):
            logits = decoder(torch.from_numpy(ids[None, :t]).long())[0, -1].double().numpy()
            probability *= softmax(logits)[ids[t]]
        whole = decoder(torch.from_numpy(ids[None]).long())[0, :-1]
        loss = negative_log_likelihood(whole, torch.from_numpy(ids[1:]).long()).item()
    assert loss == pytest.approx(-math.log(probability), rel=1e-5)
    assert text.answer_tokens == len(ids) - 1


def test_the_lines_that_the_page_quotes_are_in_the_files_that_it_names():
    section = PAGE.split("## What is computed")[1].split("## What is promised")[0]
    quoted = [
        line.strip()
        for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(quoted) == 4
    named = re.findall(r"`(devtools/[\w/]+\.py)`", section)
    sources = "".join((ROOT / path).read_text(encoding="utf-8") for path in named)
    for line in quoted:
        assert line in sources
    assert "1 / math.sqrt(arch.head_dim)" in sources


def test_files_and_tests_that_the_page_names_exist():
    for path in re.findall(r"`((?:devtools|tests)/[\w/]+(?:\.py)?)`", PAGE):
        assert (ROOT / path).exists(), path
