"""Texts to tokens, in the way the model was trained. Texts are truncated on request only."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as HfTokenizer

from services.inference.encoder.request import TokenRow
from services.inference.encoder.special_words import without_special_words
from shared.errors import CorruptFile, InvalidInput, PayloadTooLarge
from shared.panics import no_panics
from shared.text.context_length import check_context_length
from shared.text.tokenizer import tokenizer_failed

MAX_CHARS = 1_000_000
"""Characters of one text: tokenising them takes about a second."""


class EncoderTokenizer:
    """A version's `tokenizer.json`, with the special tokens that its post-processor adds.

    A special token that stands in a text (`[SEP]`) is text: it would end a query or a document early.

    Args:
        definition: The content of `tokenizer.json`; its truncation and padding are switched off.
        vocab_size: The graph's.
        max_len: Tokens of one text, special ones included, that this deployment takes.

    Raises:
        CorruptFile: It is not a tokenizer, or not this graph's.
    """

    def __init__(self, definition: str, *, vocab_size: int, max_len: int) -> None:
        with no_panics(_unreadable):
            try:
                definition = without_special_words(definition)
                self._plain, self._cutting = HfTokenizer.from_str(definition), HfTokenizer.from_str(definition)
            except Exception as error:  # the library raises bare Exception
                raise _unreadable(str(error)) from error
        for tokenizer in (self._plain, self._cutting):
            tokenizer.no_truncation()
            tokenizer.no_padding()
            tokenizer.encode_special_tokens = True
        known = self._plain.get_vocab_size(with_added_tokens=True)
        if known > vocab_size:
            raise CorruptFile(
                f"tokenizer.json has {known} tokens, but the model knows {vocab_size}; import the model again"
            )
        self._vocab_size = vocab_size
        self._max_len = max_len
        self._lock = threading.Lock()

    @classmethod
    def from_file(cls, path: Path, *, vocab_size: int, max_len: int) -> "EncoderTokenizer":
        """The tokenizer at `path`; errors as above."""
        try:
            return cls(path.read_text(encoding="utf-8"), vocab_size=vocab_size, max_len=max_len)
        except UnicodeDecodeError as error:
            raise CorruptFile(f"{path.name} is not UTF-8; import the model again") from error

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The ids of a text of any length, with the special tokens or without. Releases the GIL while it works."""
        with no_panics(tokenizer_failed):
            return list(self._plain.encode(text, add_special_tokens=special).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, special tokens included; raises `InvalidInput` for an id that the model does not have."""
        for index, token_id in enumerate(token_ids):
            if not 0 <= token_id < self._vocab_size:
                raise InvalidInput(
                    f"tokens.{index} is {token_id}; this model's token ids are 0 to {self._vocab_size - 1}",
                    param="tokens",
                )
        with no_panics(tokenizer_failed):
            return str(self._plain.decode(list(token_ids), skip_special_tokens=False))

    def token(self, token_id: int) -> str | None:
        """The token in the vocabulary's spelling, or None for an unknown id."""
        return self._plain.id_to_token(token_id)

    def texts(
        self,
        texts: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        truncate: int | None = None,
        first_index: int = 0,
        param: str = "input",
        offsets: bool = False,
    ) -> tuple[TokenRow, ...]:
        """Tokens of each text, or of each pair with the text of `second`. Releases the GIL while it works.

        Args:
            texts: One or more.
            second: As many, or None.
            truncate: Tokens to keep of each, special ones included; of a pair the longer text is cut. None: nothing
                is cut.
            first_index: The index of the first text in messages.
            param: The field in messages.
            offsets: Whether each token comes with its place in the text.

        Raises:
            ContextLengthExceeded: A text has too many tokens.
            PayloadTooLarge: A text has more than `MAX_CHARS` characters.
            InvalidInput: A text has no tokens, or `truncate` is out of range.
        """
        for index, text in enumerate(texts):
            chars = len(text) + (0 if second is None else len(second[index]))
            if chars > MAX_CHARS:
                raise PayloadTooLarge(
                    f"{param}.{first_index + index} has {chars} characters; at most {MAX_CHARS} are taken",
                    param=param,
                )
        pairs = list(texts) if second is None else list(zip(texts, second, strict=True))
        with no_panics(tokenizer_failed):
            encodings = self._encode(pairs, truncate, offsets=offsets)
        return tuple(
            TokenRow(
                self._checked(encoding.ids, first_index + index, param),
                _type_ids(encoding),
                _offsets(encoding) if offsets else None,
            )
            for index, encoding in enumerate(encodings)
        )

    def ids(
        self, token_ids: Sequence[Sequence[int]], *, truncate: int | None = None, first_index: int = 0,
        param: str = "input",
    ) -> tuple[TokenRow, ...]:  # fmt: skip
        """Token ids as they are, checked; the first `truncate` of each."""
        self._check_truncate(truncate)
        return tuple(
            TokenRow(self._checked(list(ids)[:truncate], first_index + index, param))
            for index, ids in enumerate(token_ids)
        )

    def _encode(
        self, texts: "Sequence[str | tuple[str, str]]", truncate: int | None, *, offsets: bool
    ) -> list[Encoding]:
        self._check_truncate(truncate)
        if truncate is None:
            return self._plain.encode_batch(texts) if offsets else self._plain.encode_batch_fast(texts)
        special = self._plain.num_special_tokens_to_add(isinstance(texts[0], tuple))
        if truncate <= special:
            raise InvalidInput(
                f"truncate_prompt_tokens is {truncate}, which leaves no room beside {special} special tokens",
                param="truncate_prompt_tokens",
            )
        with self._lock:  # the bound is the tokenizer's state
            self._cutting.enable_truncation(truncate)
            return self._cutting.encode_batch(texts) if offsets else self._cutting.encode_batch_fast(texts)

    def _check_truncate(self, truncate: int | None) -> None:
        if truncate is not None and not 0 < truncate <= self._max_len:
            raise InvalidInput(
                f"truncate_prompt_tokens is {truncate}; this deployment takes texts of 1 to {self._max_len} tokens",
                param="truncate_prompt_tokens",
            )

    def _checked(self, ids: list[int], index: int, param: str) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        check_context_length(
            len(ids),
            0,
            self._max_len,
            param=f"{param}.{index}",
            text=f"{param}.{index}",
            advice="split the text, send truncate_prompt_tokens to have its end cut off",
        )
        if not ids:
            raise InvalidInput(
                f"{param}.{index} has no tokens; send a text that is not empty", param=f"{param}.{index}"
            )
        tokens = np.array(ids, np.int64)
        if not 0 <= int(tokens.min()) <= int(tokens.max()) < self._vocab_size:
            raise InvalidInput(
                f"{param}.{index} has a token id outside 0 to {self._vocab_size - 1}", param=f"{param}.{index}"
            )
        return tokens


def _unreadable(reason: str) -> CorruptFile:
    return CorruptFile(f"tokenizer.json can't be read: {reason}; import the model again")


def _type_ids(encoding: Encoding) -> "np.ndarray[tuple[int], np.dtype[np.int64]] | None":
    kinds = encoding.type_ids
    return np.array(kinds, np.int64) if any(kinds) else None


def _offsets(encoding: Encoding) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    offsets[np.array(encoding.special_tokens_mask, bool)] = -1
    return offsets
