"""Means against a bias in rows: counterfactual copies, and equal counts.

A copy has the words of each pair exchanged, names and pronouns together: "Anna said that she …" becomes "Paul said
that he …". Exchanged pronouns alone would teach that Anna is a he (docs/data.md has the figures).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from devtools.data.columns import Columns
from devtools.data.rows import Row
from devtools.data.split import group_of
from devtools.data.steps import Flags
from devtools.data.texts import texts_of, with_texts
from shared.errors import InvalidInput

SETS: Mapping[str, tuple[str, ...]] = {
    "gender": tuple(
        re.findall(
            r"\S+",
            """
            he:she himself:herself man:woman men:women boy:girl boys:girls father:mother fathers:mothers son:daughter
            sons:daughters brother:sister brothers:sisters husband:wife husbands:wives uncle:aunt nephew:niece
            grandfather:grandmother king:queen prince:princess actor:actress waiter:waitress mr:ms sir:madam
            male:female dad:mom gentleman:lady gentlemen:ladies
            john:mary paul:anna mark:lucy peter:sarah james:emma adam:ruth michael:laura david:susan thomas:karen
            robert:linda daniel:julia william:jessica richard:patricia joseph:barbara charles:jennifer kevin:michelle
            brian:nancy george:helen steven:lisa edward:sandra andrew:amy henry:alice jack:olivia frank:carol
            """,
        )
    )
}
"""Named sets of pairs."""
_HIS = ("his", "him", "her", "hers")
"""`her` is `his` before a noun, and `him` elsewhere; `his` is `her` before a noun, and `hers` elsewhere."""
_WORD = re.compile(r"[^\W\d_]+")
_NO_NOUN = re.compile(
    r"\s*(?:$|[.,;:!?)\"”]|(?:and|or|but|to|in|on|at|for|with|from|by|of|the|a|an|that|if|when|because|as|is|was|about"
    r"|again|away|back|home|there|here|yesterday|today|tomorrow|soon|later|up|out|what|how|why|where)\b)",
    re.IGNORECASE,
)


def pairs_of(given: Sequence[str]) -> dict[str, str]:
    """Word -> its partner, of names of sets and `word:word`.

    Raises:
        InvalidInput: Neither of both; a word in two pairs.
    """
    partners: dict[str, str] = {}
    for one in (pair for entry in given for pair in SETS.get(entry, (entry,))):
        first, colon, second = one.lower().partition(":")
        if not colon or not _WORD.fullmatch(first) or not _WORD.fullmatch(second) or first == second:
            raise InvalidInput(
                f"pairs: {one!r}: expected {', '.join(SETS)} or word:word, for example nurse:doctor", param="pairs"
            )
        for word, other in ((first, second), (second, first)):
            if partners.setdefault(word, other) != other:
                raise InvalidInput(f"pairs: {word!r} is in two pairs; name it once", param="pairs")
    return partners


def swap(text: str, partners: Mapping[str, str]) -> str:
    """The text with each word in the place of its partner, written as the word was: he, He, HE."""
    possessive = "he" in partners

    def other(match: re.Match[str]) -> str:
        word = match[0].lower()
        partner = partners.get(word)
        if partner is None and possessive and word in _HIS:
            partner = _possessive(word, text[match.end() :])
        return _written_as(match[0], partner) if partner else match[0]

    return _WORD.sub(other, text)


def _possessive(word: str, rest: str) -> str:
    before_noun = not _NO_NOUN.match(rest)
    match word:
        case "her":
            return "his" if before_noun else "him"
        case "his":
            return "her" if before_noun else "hers"
        case "him":
            return "her"
        case _:
            return "his"


def _written_as(model: str, word: str) -> str:
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


@dataclass(frozen=True, slots=True)
class Swap:
    """Adds to each row that has words of the pairs a copy with these exchanged.

    pairs: names of sets (`gender`), and `word:word`
    """

    pairs: tuple[str, ...]
    name: ClassVar[str] = "swap"
    version: ClassVar[int] = 1
    _partners: dict[str, str] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_partners", pairs_of(self.pairs))

    def apply(self, row: Row) -> Sequence[Row]:
        """The row; and its copy, in the same group, if one word or more is exchanged."""
        copy = with_texts(row, lambda text: swap(text, self._partners))
        if copy is row:
            return (row,)
        return (row, copy.model_copy(update={"group": group_of(row)[:256]}))


@dataclass(frozen=True, slots=True)
class Balance:
    """Drops rows until each term stands as often with words of the one side as with those of the other.

    terms: words that should go with both sides alike: nurse, doctor, …
    pairs: the sides, as for `Swap`: the first words of all pairs against the second ones
    """

    terms: tuple[str, ...]
    pairs: tuple[str, ...] = ("gender",)
    name: ClassVar[str] = "balance"
    version: ClassVar[int] = 1
    _sides: dict[str, int] = field(init=False, compare=False, default_factory=dict)
    _terms: dict[str, int] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not self.terms:
            raise InvalidInput("step balance: terms: expected one word or more", param="terms")
        pairs_of(self.pairs)
        entries = [pair.lower().split(":") for entry in self.pairs for pair in SETS.get(entry, (entry,))]
        sides = {word: side for entry in entries for side, word in enumerate(entry, start=1)}
        if "he" in sides:
            sides |= dict.fromkeys(("his", "him"), sides["he"]) | dict.fromkeys(("her", "hers"), sides["she"])
        object.__setattr__(self, "_sides", sides)
        object.__setattr__(self, "_terms", {term.lower(): index for index, term in enumerate(self.terms, start=1)})

    def sketch(self, rows: Sequence[Row]) -> Mapping[str, NDArray[Any]]:
        """Of each row: its term and its side, 0 where it has none or several; and its place in a random order."""
        cells = [self._cell(row) for row in rows]
        return {
            "term": np.array([term for term, _ in cells], np.uint32),
            "side": np.array([side for _, side in cells], np.uint8),
            "place": np.array([int(row.id[:16], 16) for row in rows], np.uint64),
        }

    def decide(self, columns: Columns, row: Callable[[int], Row]) -> Flags:  # noqa: ARG002  # numbers say all
        """All rows without a term or a side; of the others as many of each side of a term."""
        term, side = columns.read("term", np.uint32), columns.read("side", np.uint8)
        place = columns.read("place", np.uint64)
        stays = np.ones(len(term), np.bool_)
        for one in range(1, len(self.terms) + 1):
            sides = [np.flatnonzero((term == one) & (side == which)) for which in (1, 2)]
            fewest = min(map(len, sides))
            for rows in sides:
                stays[rows[np.argsort(place[rows], kind="stable")][fewest:]] = False
        return stays

    def _cell(self, row: Row) -> tuple[int, int]:
        found = [word for text in texts_of(row) for word in _WORD.findall(text.lower())]
        terms = {self._terms[word] for word in found if word in self._terms}
        sides = {self._sides[word] for word in found if word in self._sides}
        return (terms.pop(), sides.pop()) if len(terms) == 1 and len(sides) == 1 else (0, 0)
