"""Our figures beside those of the libraries that define them."""

import json
import re
import string
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from devtools.data.rows import Item
from devtools.evaluate.rouge import rouge
from devtools.evaluate.scorers import answers
from devtools.evaluate.scorers.overlap import bleu, bleu_sums, chrf, chrf_sums, compare
from tests.support.models.smollm2 import xsum_pairs

GOLDEN = Path(__file__).parents[2] / "support" / "references" / "rouge_scores.json"
"""Made by `make_rouge_scores.py` with rouge-score 0.1.2."""
AWKWARD = [
    ("", "one"), ("one", ""), ("", ""), ("The cat sat.", "the cat sat"), ("a b c d", "d c b a"),
    ("naïve café", "naive cafe"), ("1,000 men", "1000 men"), ("x_y-z", "x y z"), ("a a a b", "a b b"),
    ("日本語 text", "日本語 text"),
]  # fmt: skip


def pairs():
    """News articles' first sentences beside their summaries, and the summaries without each fifth word."""
    found = [(re.split(r"(?<=[.!?])\s", document)[0], summary) for document, summary in xsum_pairs(40)]
    for _, summary in found[:20]:
        words = summary.split()
        found.append((" ".join(word for index, word in enumerate(words) if index % 5 != 2), summary))
    return found + AWKWARD


def test_rouge_is_rouge_score_to_the_bit():
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = [rouge(answer, reference) for answer, reference in pairs()]
    assert len(expected) == len(found)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_bleu_and_chrf_of_sums_are_sacrebleus():
    answers_, references = zip(*[pair for pair in pairs() if pair[0]], strict=True)
    sums = np.array([bleu_sums(a, [r]) for a, r in zip(answers_, references, strict=True)])
    expected = sacrebleu.corpus_bleu(list(answers_), [list(references)]).score
    assert expected > 10
    assert bleu(sums.sum(axis=0, keepdims=True))[0] == pytest.approx(expected, abs=1e-9)
    sums = np.array([chrf_sums(a, [r]) for a, r in zip(answers_, references, strict=True)])
    expected = sacrebleu.corpus_chrf(list(answers_), [list(references)]).score
    assert chrf(sums.sum(axis=0, keepdims=True))[0] == pytest.approx(expected, abs=1e-9)


def test_bleu_of_few_words_is_smoothed_as_sacrebleu_does():
    sums = np.array([bleu_sums("the black cat", ["the cat is black"])])
    assert bleu(sums)[0] == pytest.approx(sacrebleu.corpus_bleu(["the black cat"], [["the cat is black"]]).score)
    assert bleu(np.array([bleu_sums("", ["one"])]))[0] == 0


def test_several_references_are_sacrebleus():
    answer, references = "the cat sat on the mat", ["a cat sat on the mat", "the cat was on a mat today"]
    expected = sacrebleu.corpus_bleu([answer], [[reference] for reference in references])
    assert bleu(np.array([bleu_sums(answer, references)]))[0] == pytest.approx(expected.score)
    expected = sacrebleu.corpus_chrf([answer], [[reference] for reference in references])
    assert chrf(np.array([chrf_sums(answer, references)]))[0] == pytest.approx(expected.score)
    found = compare(answer, Item(prompt="?", references=tuple(references)), rouges=True, corpus=False)
    assert found.values["rougeL"] == max(rouge(answer, reference)["rougeL"] for reference in references)


def test_another_language_has_another_tokenizer():
    answer, reference = "我喜欢猫", "我喜欢狗"
    expected = sacrebleu.corpus_bleu([answer], [[reference]], tokenize="zh").score
    assert bleu(np.array([bleu_sums(answer, [reference], "zh")]))[0] == pytest.approx(expected)
    assert bleu(np.array([bleu_sums(answer, [reference])]))[0] != pytest.approx(expected)


# The functions of SQuAD's evaluate-v1.1.py, as published.


def squad_normalize(text):
    def remove_articles(text):
        return re.sub(r"\b(a|an|the)\b", " ", text)

    def remove_punctuation(text):
        return "".join(ch for ch in text if ch not in set(string.punctuation))

    return " ".join(remove_articles(remove_punctuation(text.lower())).split())


def squad_f1(prediction, ground_truth):
    ours, theirs = squad_normalize(prediction).split(), squad_normalize(ground_truth).split()
    same = sum((Counter(ours) & Counter(theirs)).values())
    if same == 0:
        return 0
    precision, recall = same / len(ours), same / len(theirs)
    return (2 * precision * recall) / (precision + recall)


def test_f1_and_exact_match_are_squads():
    found = [*pairs(), ("The Eiffel Tower!", "eiffel tower"), ("an apple a day", "Apple day"), ("U.S.", "us")]
    assert any(0 < squad_f1(answer, reference) < 1 for answer, reference in found)
    for answer, reference in found:
        if not squad_normalize(answer) and not squad_normalize(reference):
            assert answers.f1(answer, reference) == 1  # SQuAD 2.0: no answer was right
            continue
        assert answers.f1(answer, reference) == pytest.approx(squad_f1(answer, reference))
        same = squad_normalize(answer) == squad_normalize(reference)
        assert answers.exact_normalised(answer, reference) == float(same)


def test_strict_answers():
    assert answers.exact(" BILL-1\n", "BILL-1") == 1
    assert answers.exact("bill-1", "BILL-1") == 0
    assert answers.contains("It is BILL-1, I think", "bill-1") == 1
    assert answers.contains("It is SHIP-7", "BILL-1") == 0
