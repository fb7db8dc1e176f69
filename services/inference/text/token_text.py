"""How single tokens are shown, beside the text that they make together."""

from collections.abc import Sequence

from shared.text.tokenizer import Tokenizer


class ShownTokens:
    """The texts of tokens on their own.

    Args:
        tokenizer: The version's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._shown: dict[int, tuple[str, tuple[int, ...] | None]] = {}

    def show(self, token_id: int) -> tuple[str, tuple[int, ...] | None]:
        """How to show a token, and the bytes that it adds to the text where those are not its text's.

        A control token is shown as the vocabulary writes it, and adds nothing; bytes that are no whole character
        become U+FFFD; an id that the tokenizer lacks (models pad their vocabulary) is shown as `token_id:7`.
        """
        known = self._shown.get(token_id)
        if known is None:
            known = self._shown[token_id] = self._find(token_id)
        return known

    def written(self, token_ids: Sequence[int]) -> str:
        """The text of a prompt, with its control tokens as the vocabulary writes them."""
        pieces = (
            self.show(token_id)[0].encode()
            if self._tokenizer.is_control(token_id)
            else self._tokenizer.token_bytes(token_id)
            for token_id in token_ids
        )
        text = b"".join(pieces).decode(errors="replace")
        return text.removeprefix(" ") if self._tokenizer.strips_first_space else text

    def _find(self, token_id: int) -> tuple[str, tuple[int, ...] | None]:
        written = self._tokenizer.token(token_id)
        if written is None:
            return f"token_id:{token_id}", ()
        if self._tokenizer.is_control(token_id):
            return written, ()
        data = self._tokenizer.token_bytes(token_id)
        text = data.decode(errors="replace")
        return text, None if text.encode() == data else tuple(data)
