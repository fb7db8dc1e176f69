"""The means that are compared: steps on the rows, or keys of the recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bias.corpus import MEN, WOMEN

Steps = Sequence[tuple[str, Mapping[str, Any]]]
"""Of preparation, as in a recipe of `llmos data prepare`: names and parameters."""
JOBS: Sequence[str] = (*MEN, *WOMEN)
_PRONOUNS = [["he", "she"]]


@dataclass(frozen=True, slots=True)
class Means:
    """One line of the table.

    name: unique
    kind: none, data, regularisation or adversarial
    steps: of preparation
    recipe: keys of the training recipe that differ
    quick: whether it is in the short table
    """

    name: str
    kind: str
    steps: Steps = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False


def _robust(name: str, kind: str, *, quick: bool = False, **keys: Any) -> Means:
    return Means(name, kind, recipe={"robust": keys}, quick=quick)


def _equalise(weight: float, *, quick: bool = False) -> Means:
    table = {"weight": weight, "words": _PRONOUNS, "among": list(JOBS)}
    return _robust(f"equalising loss {weight:g}", "regularisation", quick=quick, equalise=table)


def _reverse(weight: float, *, quick: bool = False) -> Means:
    table = {"weight": weight, "words": _PRONOUNS, "among": list(JOBS)}
    return _robust(f"gradient reversal {weight:g}", "adversarial", quick=quick, reverse=table)


_TWICE: tuple[str, Mapping[str, Any]] = ("duplicates", {})  # a copy may equal a row
MEANS: Sequence[Means] = (
    Means("nothing", "none", quick=True),
    Means(
        "counterfactual copies, names too",
        "data",
        steps=(_TWICE, ("swap", {"pairs": ["gender"]}), _TWICE),
        quick=True,
    ),
    Means("balanced", "data", steps=(("balance", {"terms": list(JOBS)}),), quick=True),
    Means(
        "counterfactual copies, pronouns only",
        "data",
        steps=(_TWICE, ("swap", {"pairs": ["he:she"]}), _TWICE),
        quick=True,
    ),
    _robust("dropout 0.3", "regularisation", quick=True, dropout=0.3),
    Means("weight decay 0.3", "regularisation", recipe={"optimizer": {"weight_decay": 0.3}}),
    _robust("label smoothing 0.1", "regularisation", label_smoothing=0.1),
    _robust("R-Drop 1, dropout 0.1", "regularisation", rdrop=1.0, dropout=0.1),
    _robust("NEFTune 5", "regularisation", neftune=5.0),
    _robust("FGM 1", "adversarial", quick=True, fgm=1.0),
    _robust("FreeLB 1", "adversarial", freelb=1.0),
    _reverse(0.3),
    _reverse(1.0, quick=True),
    _equalise(0.02),
    _equalise(0.05),
    _equalise(0.1, quick=True),
    _equalise(0.2),
    _equalise(0.5),
)
