"""Bad words as token ids."""

import asyncio
from collections.abc import Sequence

from shared.errors import InvalidInput
from shared.text.tokenizer import Tokenizer

_INLINE_WORDS = 16
"""More are tokenised in a thread: about 1 ms of work."""

Words = tuple[tuple[int, ...], ...]


async def bad_word_ids(tokenizer: Tokenizer, words: Sequence[str]) -> Words:
    """The ways to write each word: at the start of a text, after a space, and after a line break.

    vLLM takes the first two, but the second only if it has as many tokens as the first: " Paris" stays possible where
    it is one token and "Paris" two. White space before a word counts for nothing, as there.

    Raises:
        InvalidInput: A word has no tokens; its place is named.
    """
    if len(words) > _INLINE_WORDS:
        return await asyncio.to_thread(_ids, tokenizer, words)
    return _ids(tokenizer, words)


def _ids(tokenizer: Tokenizer, words: Sequence[str]) -> Words:
    line_break = tokenizer.encode("\n")
    ids: dict[tuple[int, ...], None] = {}
    for index, word in enumerate(words):
        text = word.lstrip()
        alone, spaced, below = (tokenizer.encode(before + text) for before in ("", " ", "\n"))
        if not text or not alone:
            raise InvalidInput(f"bad_words has {word!r}, of which no token is left", param=f"bad_words.{index}")
        ids[tuple(alone)] = ids[tuple(spaced)] = None
        if line_break and below[: len(line_break)] == line_break and len(below) > len(line_break):
            ids[tuple(below[len(line_break) :])] = None
    return tuple(ids)
