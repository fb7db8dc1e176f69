"""Texts on which tokenizers have failed, tried before a version is made of one.

A tokenizer's regular expressions come with the model. One that backtracks too far panics on some text, and a library
may stop in a place that nobody has tried: better at the import than with the first such text of a user.
"""

from collections.abc import Iterator

from tokenizers import Tokenizer

from shared.errors import CorruptFile
from shared.panics import no_panics

_RUN = 6_000
"""Characters: beyond what a pattern may backtrack."""
_CHARACTERS = " \t\n\r\0aA1.'-_<>|([{\\\u00a0\u0301\u200d\u2028\u4e00\u0e01\U0001f600\U0010ffff"
_PAIRS = ("ab", "a ", "a1", "1.", "\r\n", " \n", "x'", "e\u0301", "\U0001f468\u200d")


def try_hostile_texts(tokenizer: Tokenizer) -> None:
    """Raise `CorruptFile` unless the tokenizer takes long runs of awkward characters, and gives ids for them."""
    for text in _texts():
        _try(tokenizer, text)


def _try(tokenizer: Tokenizer, text: str) -> None:
    with no_panics(lambda reason: _refused(text, reason)):
        try:
            tokenizer.encode(text, add_special_tokens=False)
        except Exception as error:  # the library raises nothing more specific
            raise _refused(text, str(error)) from error


def _texts() -> Iterator[str]:
    yield ""
    yield from (char * _RUN for char in _CHARACTERS)
    yield from (pair * (_RUN // 2) for pair in _PAIRS)
    yield from ("x" * _RUN + end for end in "y !\n")
    yield "".join(map(chr, (*range(0xD800), *range(0xE000, 0x11000, 7))))


def _refused(text: str, reason: str) -> CorruptFile:
    return CorruptFile(
        f"the tokenizer fails on a text that begins with {text[:10]!r} ({reason[:200]}): a model with it could not be"
        " served; take another copy of its tokenizer.json",
        param="source",
    )
