"""The language of a row, by py3langid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from devtools.data.libraries import load
from devtools.data.rows import Row
from devtools.data.texts import body_of
from shared.errors import InvalidInput

_CHARACTERS = 2_000
"""Of a text that are looked at."""
_SURE = 0.8
"""Probability from which a language is believed: short texts and codes look like anything."""
_VARIETIES = {"yue": "zh", "wuu": "zh", "nn": "no", "arz": "ar", "ary": "ar"}
"""What py3langid takes for languages of their own, and which code people give for them."""


def language_of(text: str) -> str:
    """ISO 639 code of the language, or an empty text where it is not sure."""
    code, probability = _identifier().classify(text[:_CHARACTERS])
    return _VARIETIES.get(code, code) if probability >= _SURE else ""


@cache
def _identifier() -> Any:
    langid = load("py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@dataclass(frozen=True, slots=True)
class Language:
    """Drops rows that are surely in another language than these (ISO 639: `en`, `zh`)."""

    languages: tuple[str, ...]
    name: ClassVar[str] = "language"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        known = _identifier().labels
        for language in self.languages:
            if language not in known:
                raise InvalidInput(
                    f"step language: {language!r} is not known; expected codes such as en, de, zh", param="languages"
                )

    def apply(self, row: Row) -> Sequence[Row]:
        """The row, or nothing."""
        found = language_of(body_of(row))
        return (row,) if not found or found in self.languages else ()
