"""All scorers and all metrics, by name."""

import difflib
from collections.abc import Mapping

from devtools.data.rows import Item
from devtools.evaluate.metric import Metric
from devtools.evaluate.scorers.answers import CONTAINS, EXACT_MATCH, F1, JSON_SCHEMA
from devtools.evaluate.scorers.counterfactual import COUNTERFACTUAL
from devtools.evaluate.scorers.judge import JUDGE
from devtools.evaluate.scorers.latency import LATENCY
from devtools.evaluate.scorers.likelihood import CHOICE
from devtools.evaluate.scorers.overlap import BLEU_SCORER, OVERLAP_SCORER, ROUGE_SCORER
from devtools.evaluate.scorers.perplexity import PERPLEXITY
from devtools.evaluate.scorers.refusals import REFUSALS
from devtools.evaluate.scorers.scorer import Scorer
from devtools.evaluate.scorers.stereotypes import BBQ, CROWS_PAIRS, STEREOSET
from shared.errors import InvalidInput

SCORERS: Mapping[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        CHOICE,
        *(EXACT_MATCH, F1, CONTAINS, JSON_SCHEMA),
        *(ROUGE_SCORER, BLEU_SCORER, OVERLAP_SCORER),
        PERPLEXITY,
        COUNTERFACTUAL,
        *(STEREOSET, CROWS_PAIRS, BBQ),
        *(REFUSALS, JUDGE, LATENCY),
    )
}
METRICS: Mapping[str, Metric] = {metric.name: metric for scorer in SCORERS.values() for metric in scorer.metrics}


def scorer_of(item: Item, where: str) -> Scorer:
    """The scorer of an item: the one it names, else by what it has.

    Raises:
        InvalidInput: There is no such scorer, or the item lacks what it needs; begins with `where`.
    """
    name = item.scorer or _by_content(item)
    scorer = SCORERS.get(name)
    if scorer is None:
        near = difflib.get_close_matches(name, SCORERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SCORERS)}"
        raise InvalidInput(f"{where}: there is no scorer {name!r}; {hint}", param="scorer")
    if lacking := scorer.needs(item):
        raise InvalidInput(f"{where}: the scorer {name!r} needs {lacking}", param="scorer")
    return scorer


def _by_content(item: Item) -> str:
    if item.choices:
        return "choice"
    return "exact_match" if item.messages or item.prompt else "perplexity"
