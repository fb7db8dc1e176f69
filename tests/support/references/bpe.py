"""Byte-level BPE written straight from its published definition (GPT-2's encoder.py), slow and plain.

It shares nothing with the `tokenizers` library, whose Rust code LLMOS serves with: words are cut by Python's `re`
with Unicode classes made from `unicodedata`, and merges are applied one by one to a list. Word patterns are those
that the model's authors published: GPT-2's, after cutting out every digit for SmolLM2 (its tokenizer.json's
`Digits(individual_digits=True)`), and Llama 3's.
"""

import itertools
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.models.llama_files import byte_alphabet

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def _ranges(first_letter: str) -> str:
    """The inside of a regular expression's class of all characters of a Unicode category."""
    parts, start = [], None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code))[0] == first_letter
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            parts.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(parts)


LETTERS, NUMBERS = _ranges("L"), _ranges("N")


def _compiled(pattern: str) -> re.Pattern[str]:
    """`pattern` with Unicode's properties written out."""
    inside = {r"\p{L}": LETTERS, r"\p{N}": NUMBERS, r"\s": WHITE_SPACE}
    out, in_class, position = [], False, 0
    while position < len(pattern):
        name = next((name for name in inside if pattern.startswith(name, position)), None)
        if name is not None:
            out.append(inside[name] if in_class else f"[{inside[name]}]")
            position += len(name)
            continue
        if pattern.startswith(r"\S", position):
            out.append(f"[^{WHITE_SPACE}]")
            position += 2
            continue
        in_class = pattern[position] == "[" or (in_class and pattern[position] != "]")
        out.append(pattern[position])
        position += 1
    return re.compile("".join(out))


class ReferenceTokenizer:
    """Encodes text with the vocabulary in a GGUF's metadata.

    `pre` is `smollm`, `gpt-2`, `llama-bpe` or `smaug-bpe`, which is Llama 3's without whole words.
    """

    def __init__(self, metadata: Mapping[str, Any], pre: str) -> None:
        tokens = metadata["tokenizer.ggml.tokens"]
        types = metadata["tokenizer.ggml.token_type"]
        self.ids = {token: number for number, token in enumerate(tokens)}
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(metadata["tokenizer.ggml.merges"])}
        added = [token for token, kind in zip(tokens, types, strict=True) if kind in (3, 4)]
        self.added = re.compile(
            "|".join(re.escape(token) for token in sorted(added, key=len, reverse=True)) or r"(?!)"
        )
        self.pre = pre
        self.words = _compiled(LLAMA3 if pre in ("llama-bpe", "smaug-bpe") else GPT2)
        self.digit = re.compile(f"([{NUMBERS}])")
        self.alphabet = byte_alphabet()

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`; added tokens are found first, the leftmost and longest."""
        ids, position = [], 0
        for match in self.added.finditer(text):
            ids += self._encode_plain(text[position : match.start()])
            ids.append(self.ids[match[0]])
            position = match.end()
        return ids + self._encode_plain(text[position:])

    def _encode_plain(self, text: str) -> list[int]:
        return [self.ids[part] for word in self._cut(text) for part in self._merge(word)]

    def _cut(self, text: str) -> Iterator[str]:
        parts = self.digit.split(text) if self.pre == "smollm" else [text]
        for part in parts:
            yield from self.words.findall(part)

    def _merge(self, word: str) -> list[str]:
        parts = [self.alphabet[byte] for byte in word.encode()]
        if self.pre == "llama-bpe" and "".join(parts) in self.ids:
            return ["".join(parts)]
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            merged, position = [], 0
            while position < len(parts):
                if tuple(parts[position : position + 2]) == best:
                    merged.append("".join(best))
                    position += 2
                else:
                    merged.append(parts[position])
                    position += 1
            parts = merged
        return parts
