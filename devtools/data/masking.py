"""Personal data in rows: masked, or the row dropped."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from devtools.data import private
from devtools.data.rows import Row
from devtools.data.texts import texts_of, with_texts
from shared.errors import InvalidInput

Classify = Callable[[Sequence[str]], Sequence[str]]
"""The label of each text, from a served classifier."""

_SENTENCE = re.compile(r"[^.!?\u3002\uff01\uff1f\n]+[.!?\u3002\uff01\uff1f]*\s*|\n+")
_NO_PERSON = {"O", "NONE", "NO", "NEGATIVE", "LABEL_0", "SAFE", "CLEAN"}
"""Labels of a classifier that say that a sentence names nobody."""


@dataclass(frozen=True, slots=True)
class Private:
    """Masks personal data, `[EMAIL]`, or drops the rows that have some.

    action: `mask` or `drop`
    kinds: which; all if none is given
    regions: countries whose national phone numbers count
    model: a deployment that classifies sentences: those in which it finds a person are masked as a whole
    """

    action: str = "mask"
    kinds: tuple[str, ...] = private.KINDS
    regions: tuple[str, ...] = ()
    model: str = ""
    name: ClassVar[str] = "private"
    version: ClassVar[int] = 1
    classify: Classify | None = field(default=None, compare=False, metadata={"recorded": False})

    def __post_init__(self) -> None:
        if self.action not in {"mask", "drop"}:
            raise InvalidInput(f"step private: action: expected mask or drop, found {self.action!r}", param="action")
        if unknown := set(self.kinds) - set(private.KINDS):
            raise InvalidInput(
                f"step private: kinds: {', '.join(sorted(unknown))}: expected some of {', '.join(private.KINDS)}",
                param="kinds",
            )
        private.check_regions(self.regions)
        if self.model and self.classify is None:
            raise InvalidInput("step private: model: a job can't ask a deployment; prepare here", param="model")

    def apply(self, row: Row) -> Sequence[Row]:
        """The row, masked; or nothing."""
        if self.action == "drop":
            return () if any(self._masked(text) != text for text in texts_of(row)) else (row,)
        return (with_texts(row, self._masked),)

    def _masked(self, text: str) -> str:
        masked = private.mask(text, private.find(text, self.kinds, self.regions))
        if self.classify is None:
            return masked
        sentences = _SENTENCE.findall(masked)
        asked = [index for index, sentence in enumerate(sentences) if any(map(str.isalpha, sentence))]
        labels = self.classify([sentences[index].strip() for index in asked]) if asked else ()
        for index, label in zip(asked, labels, strict=True):
            if label.upper() not in _NO_PERSON:
                ending = sentences[index][len(sentences[index].rstrip()) :]
                sentences[index] = f"[PERSON]{ending}"
        return "".join(sentences)
