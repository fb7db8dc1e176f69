"""Makes `llama_cpp_words.json`: the words that llama.cpp cuts texts into, by the name of the pre-tokenizer.

Run by hand, in an environment with cyllama (a wheel with llama.cpp's library), from the repository's root:

    python -m tests.support.references.make_llama_cpp_words

llama.cpp has no function that returns words. Every part of each text is therefore a token, and every way to join two
parts a merge: a word then always becomes one token.
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cyllama.llama.llama_cpp import LlamaModel, LlamaModelParams

from devtools.convert.gguf.pre_tokenizers import PRE_TOKENIZERS
from tests.support.models.llama_files import HIDDEN, byte_alphabet, write_llama
from tests.support.models.word_texts import WORD_TEXTS

WORDS = Path(__file__).with_name("llama_cpp_words.json")


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges that join any part of a text."""
    alphabet = byte_alphabet()
    tokens, merges = dict.fromkeys(alphabet), {}
    for text in WORD_TEXTS:
        word = "".join(alphabet[byte] for byte in text.encode())
        for length in range(2, len(word) + 1):
            for start in range(len(word) - length + 1):
                part = word[start : start + length]
                tokens[part] = None
                merges |= dict.fromkeys(f"{part[:cut]} {part[cut:]}" for cut in range(1, length))
    return list(tokens), list(merges)


def words(pre: str, folder: Path, tokens: list[str], merges: list[str]) -> list[list[str]]:
    path = write_llama(
        folder / "model.gguf",
        metadata={
            "tokenizer.ggml.pre": pre,
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [1] * len(tokens),
            "tokenizer.ggml.merges": merges,
        },
        extra={"token_embd.weight": np.zeros((len(tokens), HIDDEN), np.float32)},
    )
    model = LlamaModel(str(path), LlamaModelParams(), verbose=False)  # owns the vocabulary
    vocabulary = model.get_vocab()
    byte_of = {char: byte for byte, char in enumerate(byte_alphabet())}
    found = []
    for text in WORD_TEXTS:
        ids = vocabulary.tokenize(text, False, False)
        pieces = [bytes(byte_of[char] for char in tokens[number]).decode() for number in ids]
        if "".join(pieces) != text:
            raise SystemExit(f"{pre}: {text!r} became {pieces}")
        found.append(pieces)
    return found


def main() -> None:
    tokens, merges = vocabulary()
    groups: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for pre in PRE_TOKENIZERS:
            cut = words(pre, Path(folder), tokens, merges)
            groups.setdefault(json.dumps(cut, ensure_ascii=False), []).append(pre)
    lines = ",\n".join(f'{{"names": {json.dumps(names)},\n"words": {cut}}}' for cut, names in groups.items())
    WORDS.write_text(f'{{"made_with": "cyllama {version("cyllama")}", "groups": [\n{lines}]}}\n')


if __name__ == "__main__":
    main()
