"""The tokenizer of a GGUF as a Hugging Face `tokenizer.json`.

GGUF keeps a byte-level BPE as its tokens, their types and merges, and names how text is cut into words before
merging (`pre_tokenizers`). SentencePiece's BPE has scores instead of merges (`sentencepiece`). No token is added at
the beginning here: whether a prompt begins with one is `DecoderSpec.add_bos_token`; a chat template writes it itself.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from devtools.convert.gguf.pre_tokenizers import DEFAULT, PRE_TOKENIZERS, pre_tokenizer_name
from devtools.convert.gguf.sentencepiece import sentencepiece_bpe
from devtools.convert.model_text import END_TOKENS, ModelText
from shared.errors import CorruptFile, UnsupportedFormat

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
"""`tokenizer.ggml.token_type` values of tokens that are more than a part of words."""

_SENTENCEPIECE, _BYTE_LEVEL = "llama", "gpt2"
"""Values of `tokenizer.ggml.model`."""
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
_SPECIAL_KEYS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "sep_token": "seperator_token_id",
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}
"""Name in a chat template -> key of the GGUF, misspelt as in the format."""

_log = structlog.get_logger("llmos.convert")


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
    elif kind == _BYTE_LEVEL:
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
    pre = PRE_TOKENIZERS[pre_tokenizer_name(metadata)]
    merges = [_pair(merge) for merge in _strings(metadata, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise CorruptFile("a token stands twice in the vocabulary", param="source")
    lost = next((pair for pair in merges if not {*pair, "".join(pair)} <= vocabulary.keys()), None)
    if lost is not None:
        raise CorruptFile(f"the merge {lost} uses a token that is not in the vocabulary", param="source")
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre.whole_words))
    tokenizer.pre_tokenizer = pre.build()
    tokenizer.decoder = decoders.ByteLevel()
    if pre.composes:
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def read_text(metadata: Mapping[str, Any]) -> ModelText:
    """What the metadata of a GGUF say about text.

    Raises:
        UnsupportedFormat: an unsupported kind of tokenizer.
        CorruptFile: keys are missing or contradict one another.
    """
    bos, template = bos_token_id(metadata), metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise CorruptFile("the chat template ('tokenizer.chat_template') is not a text", param="source")
    tokenizer = build_tokenizer(metadata)
    if metadata.get("tokenizer.ggml.model") == _BYTE_LEVEL and pre_tokenizer_name(metadata) == DEFAULT:
        _log.warning(
            "tokenizer.guessed",
            reason="the file does not say how text is cut into words ('tokenizer.ggml.pre')",
            consequence="text is cut by llama.cpp's default, and answers may be worse",
            advice="take a GGUF that a newer llama.cpp converted, or the Hugging Face directory",
        )
    return ModelText(
        tokenizer=tokenizer,
        chat_template=template,
        bos_token_id=bos,
        add_bos_token=bos is not None and begins_with_bos(metadata),
        eos_token_ids=end_token_ids(metadata),
        special_tokens=special_tokens(metadata),
    )


def special_tokens(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Texts of the special tokens by their names in chat templates; one that the vocabulary lacks is left out."""
    tokens = _strings(metadata, "tokenizer.ggml.tokens")
    numbers = {name: metadata.get(f"tokenizer.ggml.{key}") for name, key in _SPECIAL_KEYS.items()}
    return {
        name: tokens[number]
        for name, number in numbers.items()
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(tokens)
    }


def begins_with_bos(metadata: Mapping[str, Any]) -> bool:
    """Whether a plain prompt begins with the BOS token; where the file is silent, as llama.cpp does it."""
    if metadata.get("tokenizer.ggml.model") == _SENTENCEPIECE:
        silent = True
    else:
        silent = PRE_TOKENIZERS[pre_tokenizer_name(metadata)].bos
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
