"""Texts of single tokens, as log probabilities show them."""

from collections.abc import Sequence

from shared.text.tokenizer import Tokenizer


class TokenTexts:
    """The texts of tokens on their own.

    Args:
        tokenizer: The version's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, tuple[str, tuple[int, ...] | None]] = {}

    def text_and_bytes(self, token_id: int) -> tuple[str, tuple[int, ...] | None]:
        """A token's text, and the bytes that it adds to an answer where these are not the text's own.

        A control token has the text that the vocabulary gives it, and adds nothing; bytes that are not a whole
        character become U+FFFD; an id that the tokenizer lacks (models pad their vocabulary) becomes `token_id:7`.
        """
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._text_and_bytes(token_id)
        return known

    def prompt_text(self, token_ids: Sequence[int]) -> str:
        """The text of a prompt, with its control tokens as the vocabulary writes them."""
        pieces = (
            self.text_and_bytes(token_id)[0].encode()
            if self._tokenizer.is_control(token_id)
            else self._tokenizer.token_bytes(token_id)
            for token_id in token_ids
        )
        text = b"".join(pieces).decode(errors="replace")
        return text.removeprefix(" ") if self._tokenizer.strips_first_space else text

    def _text_and_bytes(self, token_id: int) -> tuple[str, tuple[int, ...] | None]:
        name = self._tokenizer.token(token_id)
        if name is None:
            return f"token_id:{token_id}", ()
        if self._tokenizer.is_control(token_id):
            return name, ()
        data = self._tokenizer.token_bytes(token_id)
        text = data.decode(errors="replace")
        return text, None if text.encode() == data else tuple(data)
