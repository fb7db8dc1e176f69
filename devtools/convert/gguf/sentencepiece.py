"""SentencePiece's BPE with byte fallback (Llama 2, Mistral, Gemma) from a GGUF, as a `tokenizers` tokenizer.

SentencePiece joins the two neighbours whose joined piece has the highest score (the leftmost of equals) until no two
neighbours make a piece. `tokenizers` has a list of pairs instead and joins the pair that stands first: here that list
is every way to cut every piece in two, in the order of the joined piece's score. What is no piece becomes bytes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers

from shared.errors import CorruptFile

NORMAL, UNKNOWN = 1, 2
"""`tokenizer.ggml.token_type` values of pieces that text is made of, and of the one for what is none."""
_SPACE = "▁"
_LONGEST = 1024
"""Characters of the longest piece of a real vocabulary are a few dozen; each cut of each piece is tried."""


def sentencepiece_bpe(metadata: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]) -> Tokenizer:
    """The tokenizer without its control tokens.

    Args:
        metadata: Of the GGUF.
        tokens: Its vocabulary.
        types: Their types.

    Raises:
        CorruptFile: scores are missing or a piece is impossible.
    """
    scores = _scores(metadata, len(tokens))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise CorruptFile("a token stands twice in the vocabulary", param="source")
    unknown = next((token for token, kind in zip(tokens, types, strict=True) if kind == UNKNOWN), None)
    pieces = {token: scores[number] for token, number in vocabulary.items() if types[number] == NORMAL}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=_merges(pieces),
            unk_token=unknown or _unknown_token(metadata, tokens),
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    space = normalizers.Replace(" ", _SPACE)
    steps: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), space])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = space
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _merges(pieces: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, those with the highest scores first."""
    longest = max(map(len, pieces), default=0)
    if longest > _LONGEST:
        raise CorruptFile(f"a piece of the vocabulary has {longest:,} characters", param="source")
    pairs = [
        (score, piece[:cut], piece[cut:])
        for piece, score in pieces.items()
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]
    # A stable sort: of a piece's own cuts, the shortest left part first.
    pairs.sort(key=lambda pair: -pair[0])
    return [(left, right) for _, left, right in pairs]


def _scores(metadata: Mapping[str, Any], tokens: int) -> list[float]:
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != tokens or not all(map(_is_score, scores)):
        raise CorruptFile(f"'tokenizer.ggml.scores' does not list the scores of {tokens:,} tokens", param="source")
    return scores


def _is_score(value: object) -> bool:
    return isinstance(value, float) and not math.isnan(value)


def _unknown_token(metadata: Mapping[str, Any], tokens: Sequence[str]) -> str | None:
    number = metadata.get("tokenizer.ggml.unknown_token_id")
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < len(tokens):
        raise CorruptFile(f"the token {number!r} is not in the vocabulary of {len(tokens):,}", param="source")
    return tokens[number]
