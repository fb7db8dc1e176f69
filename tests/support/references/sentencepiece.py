"""SentencePiece's BPE written straight from its definition, slow and plain (llama.cpp's `llm_tokenizer_spm` agrees).

It shares nothing with the `tokenizers` library: scores instead of a list of pairs, characters in a list.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

_CONTROL, _USER_DEFINED = 3, 4


class ReferenceSentencePiece:
    """The tokenizer of a GGUF's metadata."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
        self._ids = {token: number for number, token in enumerate(tokens)}
        self._scores = dict(zip(tokens, metadata["tokenizer.ggml.scores"], strict=True))
        whole = [token for token, kind in zip(tokens, types, strict=True) if kind in (_CONTROL, _USER_DEFINED)]
        longest_first = sorted(whole, key=len, reverse=True)
        self._whole = frozenset(whole)
        self._cut = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if whole else None
        self._prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, nothing added at its ends; a space goes before each part that follows a whole token."""
        return [number for part in self._parts(text) for number in self._encode_part(part)]

    def _parts(self, text: str) -> Iterator[str]:
        yield from (part for part in (self._cut.split(text) if self._cut else [text]) if part)

    def _encode_part(self, part: str) -> list[int]:
        if part in self._whole:
            return [self._ids[part]]
        symbols = list((("▁" if self._prefix else "") + part).replace(" ", "▁"))
        while True:
            joined = [
                (-self._scores[left + right], place)
                for place, (left, right) in enumerate(itertools.pairwise(symbols))
                if left + right in self._ids
            ]
            if not joined:
                break
            _, place = min(joined)
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        return [number for symbol in symbols for number in self._known(symbol)]

    def _known(self, symbol: str) -> list[int]:
        if symbol in self._ids:
            return [self._ids[symbol]]
        return [self._ids[f"<0x{byte:02X}>"] for byte in symbol.encode()]
