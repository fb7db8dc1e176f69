"""The tokenizer of a GGUF as a Hugging Face `tokenizer.json`.

GGUF keeps a byte-level BPE as its tokens, their types and merges, and names how text is cut into words before
merging (`tokenizer.ggml.pre`); what a name means is defined by llama.cpp (`llama-vocab.cpp`). SentencePiece's BPE
has scores instead of merges (`sentencepiece`). No token is added at
the beginning here: whether a prompt begins with one is `DecoderSpec.add_bos_token`; a chat template writes it itself.
"""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from devtools.convert.gguf.sentencepiece import sentencepiece_bpe
from devtools.convert.model_text import END_TOKENS, ModelText
from shared.errors import CorruptFile, UnsupportedFormat

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
"""`tokenizer.ggml.token_type` values of tokens that are more than a part of words."""

_SENTENCEPIECE = "llama"
_LLAMA3_NAMES = ("llama-bpe", "llama3", "llama-v3")
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def _words(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in ("default", "gpt-2"):
        return gpt2
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    if name in _LLAMA3_NAMES:
        return _words(_LLAMA3)
    if name == "qwen2":
        return _words(_QWEN2)
    raise UnsupportedFormat(
        f"the pre-tokenizer {name!r} is not supported; supported: smollm, llama-bpe, qwen2, gpt-2", param="source"
    )


def build_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a GGUF's `tokenizer.ggml.*` keys describe.

    Raises:
        UnsupportedFormat: an unknown kind of tokenizer or pre-tokenizer.
        CorruptFile: keys are missing or contradict one another.
    """
    kind = metadata.get("tokenizer.ggml.model")
    tokens = _strings(metadata, "tokenizer.ggml.tokens")
    types = _types(metadata, len(tokens))
    if kind == _SENTENCEPIECE:
        tokenizer = sentencepiece_bpe(metadata, tokens, types)
    elif kind == "gpt2":
        tokenizer = _byte_level_bpe(metadata, tokens)
    else:
        raise UnsupportedFormat(
            f"the tokenizer is of kind {kind!r}; byte-level BPE ('gpt2') and SentencePiece's BPE ('llama') are"
            " supported",
            param="source",
        )
    added = [
        AddedToken(token, special=kind == _CONTROL, normalized=False)
        for token, kind in zip(tokens, types, strict=True)
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    tokenizer.add_tokens([token for token in added if not token.special])
    tokenizer.add_special_tokens([token for token in added if token.special])
    return tokenizer


def _byte_level_bpe(metadata: Mapping[str, Any], tokens: list[str]) -> Tokenizer:
    pre = metadata.get("tokenizer.ggml.pre", "default")
    merges = [_pair(merge) for merge in _strings(metadata, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise CorruptFile("a token stands twice in the vocabulary", param="source")
    lost = next((pair for pair in merges if not {*pair, "".join(pair)} <= vocabulary.keys()), None)
    if lost is not None:
        raise CorruptFile(f"the merge {lost} uses a token that is not in the vocabulary", param="source")
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre in _LLAMA3_NAMES))
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def read_text(metadata: Mapping[str, Any]) -> ModelText:
    """What the metadata of a GGUF say about text.

    Raises:
        UnsupportedFormat: an unsupported kind of tokenizer.
        CorruptFile: keys are missing or contradict one another.
    """
    bos, template = bos_token_id(metadata), metadata.get("tokenizer.chat_template")
    return ModelText(
        tokenizer=build_tokenizer(metadata),
        chat_template=template if isinstance(template, str) else None,
        bos_token_id=bos,
        add_bos_token=bos is not None and begins_with_bos(metadata),
        eos_token_ids=end_token_ids(metadata),
    )


def begins_with_bos(metadata: Mapping[str, Any]) -> bool:
    """Whether a plain prompt begins with the BOS token; where the file is silent, as llama.cpp does it."""
    silent = (
        metadata.get("tokenizer.ggml.model") == _SENTENCEPIECE or metadata.get("tokenizer.ggml.pre") in _LLAMA3_NAMES
    )
    return bool(metadata.get("tokenizer.ggml.add_bos_token", silent))


def end_token_ids(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    """The tokens that end an answer: the file's EOS first, then its other end-of-turn tokens.

    Raises:
        CorruptFile: an id that is not in the vocabulary.
    """
    tokens = _strings(metadata, "tokenizer.ggml.tokens")
    types = _types(metadata, len(tokens))
    named = [metadata[f"tokenizer.ggml.{key}"] for key in _END_KEYS if f"tokenizer.ggml.{key}" in metadata]
    for number in named:
        _check_token(number, len(tokens))
    marked = [i for i, token in enumerate(tokens) if token in END_TOKENS and types[i] == _CONTROL]
    return tuple(dict.fromkeys([*named, *marked]))


def bos_token_id(metadata: Mapping[str, Any]) -> int | None:
    """The BOS token, if the file names one; raises CorruptFile when it is not in the vocabulary."""
    number = metadata.get("tokenizer.ggml.bos_token_id")
    return None if number is None else _check_token(number, len(_strings(metadata, "tokenizer.ggml.tokens")))


def _check_token(number: Any, tokens: int) -> int:
    if not isinstance(number, int) or not 0 <= number < tokens:
        raise CorruptFile(f"the token {number!r} is not in the vocabulary of {tokens:,}", param="source")
    return number


def _strings(metadata: Mapping[str, Any], key: str) -> list[str]:
    values = metadata.get(key)
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise CorruptFile(f"the metadata key {key!r} is missing or is not a list of texts", param="source")
    return values


def _types(metadata: Mapping[str, Any], tokens: int) -> list[int]:
    types = metadata.get("tokenizer.ggml.token_type", [_NORMAL] * tokens)
    if not isinstance(types, list) or len(types) != tokens:
        raise CorruptFile(f"'tokenizer.ggml.token_type' does not list the types of {tokens:,} tokens", param="source")
    return types


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if not left or not right:
        raise CorruptFile(f"{merge!r} is not a merge of two tokens", param="source")
    return left, right
