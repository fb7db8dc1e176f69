"""A version's tokenizer for llguidance: the bytes of every id."""

from collections.abc import Sequence

from llguidance import LLTokenizer, TokenizerWrapper

from shared.text.tokenizer import Tokenizer


class _TokenizerAdapter:
    """The interface that `TokenizerWrapper` reads."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_id: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = eos_token_id
        self.tokens: list[bytes] = []
        self.special_token_ids: list[int] = []
        for token in range(vocab_size):
            data = tokenizer.token_bytes(token)
            if not data:  # a control token, or an id that only the model has
                self.special_token_ids.append(token)
                data = (tokenizer.token(token) or f"<unused {token}>").encode()
            self.tokens.append(data)

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode(errors="replace"))


def grammar_tokenizer(tokenizer: Tokenizer, *, vocab_size: int, eos_token_ids: Sequence[int]) -> LLTokenizer:
    """The tokenizer for grammars. Takes about a second and 50 MB for 50,000 ids; call it off the event loop.

    Control tokens match no text: a grammar allows them only where it names them, and EOS where it may end.

    Args:
        tokenizer: The version's.
        vocab_size: Ids that the model knows; the tokenizer may know fewer.
        eos_token_ids: Allowed where a grammar may end.
    """
    eos = [token for token in eos_token_ids if token < vocab_size]
    return LLTokenizer(
        TokenizerWrapper(_TokenizerAdapter(tokenizer, vocab_size, eos[0])), n_vocab=vocab_size, eos_token=eos
    )
