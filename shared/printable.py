"""Which characters a terminal shows, and how those that it would obey are written out."""

import re
import unicodedata

_OBEYED = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's categories of controls (C0, DEL, C1), halves of surrogate pairs and separators of lines."""
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They change the order in which the characters after them are shown."""
_PLAIN = re.compile(r"[ -~]*")


def obeyed(character: str) -> bool:
    """Whether a terminal acts on a character instead of showing it."""
    return unicodedata.category(character) in _OBEYED or character in _DIRECTIONS


def is_printable(text: str) -> bool:
    """Whether a terminal shows all of `text`, on one line."""
    return not any(map(obeyed, text))


def printable(text: str, keep: str = "") -> str:
    r"""`text` with all that a terminal would obey written out (`\x1b`, `\u202e`), except the characters of `keep`."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(repr(char)[1:-1] if obeyed(char) and char not in keep else char for char in text)


def printable_document(text: str) -> str:
    r"""A JSON or TOML document with `\u009b` in its strings for what a terminal would obey: it means the same."""
    return "".join(f"\\u{ord(char):04x}" if obeyed(char) and char not in "\n\t" else char for char in text)
