"""Token ids to text as they come."""

import codecs

from shared.text.tokenizer import Tokenizer


class Detokenizer:
    """The text of a growing sequence of tokens. Constant work per token.

    Tokens are bytes of UTF-8 text, and a character may take several tokens: a character is released when its last
    byte is there. Bytes that are not UTF-8 become U+FFFD, one for each maximal ill-formed part (as in the decoders of
    WHATWG and Rust), so the pieces joined equal the whole text decoded at once.

    Args:
        tokenizer: The version's.
        exact: Whether a space at the start is kept where the tokenizer would strip it.
    """

    def __init__(self, tokenizer: Tokenizer, *, exact: bool = False) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip_space = tokenizer.strips_first_space and not exact
        self.stripped = False
        """Whether the text lost a space at its start."""

    def push(self, token_id: int) -> str:
        """The text that this token completes, often all of it, or none."""
        return self._trim(self._utf8.decode(self._tokenizer.token_bytes(token_id)))

    def finish(self) -> str:
        """The text that was held back: U+FFFD for an incomplete character, or nothing."""
        return self._trim(self._utf8.decode(b"", final=True))

    def _trim(self, text: str) -> str:
        if self._strip_space and text:
            self._strip_space = False
            self.stripped = text.startswith(" ")
            return text.removeprefix(" ")
        return text
