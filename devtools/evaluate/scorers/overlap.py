"""Generated text beside references: ROUGE, and BLEU and chrF as sacrebleu computes them.

ROUGE is a mean over items. BLEU and chrF belong to a corpus: they are computed from sums over items, so that the
bootstrap can draw items again.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from devtools.data.rows import Item
from devtools.evaluate.metric import Metric
from devtools.evaluate.rouge import rouge
from devtools.evaluate.scorers.scorer import Model, Scorer, needs_question
from devtools.evaluate.statistics import Floats
from shared.contracts.report import ItemScore
from shared.errors import InvalidInput

ROUGE = tuple(Metric(name) for name in ("rougeL", "rouge1", "rouge2"))
_BLEU_ORDER = 4
_TOKENIZERS = ("13a", "zh", "ja-mecab", "ko-mecab", "char", "intl", "none", "flores101", "flores200")


@cache
def _library() -> Any:
    try:
        import sacrebleu.metrics  # noqa: PLC0415  # other suites are scored without it
    except ImportError:
        raise InvalidInput("BLEU and chrF need sacrebleu: pip install 'llmos[evaluate]'") from None
    return sacrebleu.metrics


@cache
def _bleu(tokenizer: str) -> Any:
    if tokenizer not in _TOKENIZERS:
        raise InvalidInput(
            f"labels.tokenizer is {tokenizer!r}; expected one of sacrebleu's: {', '.join(_TOKENIZERS)}",
            param="labels.tokenizer",
        )
    return _library().BLEU(tokenize=tokenizer, effective_order=True)


@cache
def _chrf() -> Any:
    class Chrf(_library().CHRF):  # type: ignore[misc]
        """chrF2 with its sums in the open."""

        def sums(self, answer: str, references: Sequence[str]) -> list[int]:
            """Of each order of characters: of the answer, of the reference, of both."""
            found: list[list[int]] = self._extract_corpus_statistics([answer], [[text] for text in references])
            return found[0]

        def of(self, sums: Sequence[float]) -> float:
            """The score of summed sums."""
            value: float = self._compute_f_score([int(number) for number in sums])
            return value

    return Chrf()


def bleu_sums(answer: str, references: Sequence[str], tokenizer: str = "13a") -> tuple[float, ...]:
    """Length of the answer, of the closest reference, n-grams that match and all n-grams, for n from 1 to 4."""
    score = _bleu(tokenizer).sentence_score(answer, list(references))
    return (score.sys_len, score.ref_len, *score.counts, *score.totals)


def bleu(sums: Floats) -> Floats:
    """Corpus BLEU, 0 to 100, of [rounds, 10] sums."""
    compute = _library().BLEU.compute_bleu
    return np.array(
        [
            compute(
                correct=[int(x) for x in row[2 : 2 + _BLEU_ORDER]],
                total=[int(x) for x in row[2 + _BLEU_ORDER :]],
                sys_len=int(row[0]),
                ref_len=int(row[1]),
                smooth_method="exp",
            ).score
            for row in np.rint(sums)
        ]
    )


def chrf_sums(answer: str, references: Sequence[str]) -> tuple[float, ...]:
    """The item's part of the sums of chrF2."""
    return tuple(float(number) for number in _chrf().sums(answer, references))


def chrf(sums: Floats) -> Floats:
    """Corpus chrF2, 0 to 100."""
    return np.array([_chrf().of(row) for row in np.rint(sums)])


BLEU_METRIC = Metric("bleu", scale=100, combine=bleu)
CHRF_METRIC = Metric("chrf", scale=100, combine=chrf)


def compare(answer: str, item: Item, *, rouges: bool, corpus: bool) -> ItemScore:
    """The score of an answer. ROUGE is that of the best reference, as `rouge-score` takes it."""
    values: dict[str, float] = {}
    if rouges:
        found = [rouge(answer, reference) for reference in item.references]
        values = {metric.name: max(one[metric.name] for one in found) for metric in ROUGE}
    sums = {}
    if corpus:
        tokenizer = item.labels.get("tokenizer", "13a")
        sums = {
            "bleu": bleu_sums(answer, item.references, tokenizer),
            "chrf": chrf_sums(answer, item.references),
        }
    return ItemScore(answer=answer, values=values, sums=sums)


def _scorer(name: str, metrics: tuple[Metric, ...], *, rouges: bool, corpus: bool) -> Scorer:
    async def score(item: Item, model: Model) -> ItemScore:
        return compare((await model.answer(item)).text.strip(), item, rouges=rouges, corpus=corpus)

    return Scorer(name, metrics, score, needs_question)


ROUGE_SCORER = _scorer("rouge", ROUGE, rouges=True, corpus=False)
BLEU_SCORER = _scorer("bleu", (BLEU_METRIC, CHRF_METRIC), rouges=False, corpus=True)
OVERLAP_SCORER = _scorer("overlap", (*ROUGE, BLEU_METRIC, CHRF_METRIC), rouges=True, corpus=True)
