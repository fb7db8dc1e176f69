"""Characters that no text has, and their repair."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from devtools.data.libraries import load
from devtools.data.rows import Row
from devtools.data.texts import with_texts

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_SPECIAL = re.compile(
    r"<\|(?:im_start|im_end|endoftext|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|eom_id)\|>"
    r"|<(?:start|end)_of_turn>|</?s>|\[/?INST\]|<<SYS>>"
)
_FIX = {
    "unescape_html": False,
    "uncurl_quotes": False,
    "fix_character_width": False,
    "fix_latin_ligatures": False,
    "normalization": "NFC",
}
"""Of ftfy: mend what was damaged, and leave what somebody meant (quotes, full-width forms, `&amp;` in code)."""


def broken_text(text: str) -> Iterator[str]:
    """Kinds of defects that the characters of a text have."""
    if _CONTROL.search(text):
        yield "control_character"
    if ("<" in text or "[" in text) and _SPECIAL.search(text):
        yield "special_token"
    if not text.isascii() and ("\ufffd" in text or load("ftfy").badness.is_bad(text)):
        yield "mojibake"


def fix(text: str) -> str:
    """The text with wrongly decoded characters decoded rightly, without control characters, in NFC."""
    if text.isascii() and not _CONTROL.search(text) and "\r" not in text:
        return text
    fixed: str = _CONTROL.sub("", load("ftfy").fix_text(text, config=_config()))
    return fixed


def _config() -> Any:
    return load("ftfy").TextFixerConfig(**_FIX)


@dataclass(frozen=True, slots=True)
class Unicode:
    """Repairs the Unicode of each text."""

    name: ClassVar[str] = "unicode"
    version: ClassVar[int] = 1

    def apply(self, row: Row) -> Sequence[Row]:
        """The row, repaired."""
        return (with_texts(row, fix),)
