"""The classes of a text's tokens, with their places in the text. Pure."""

from collections.abc import Sequence

from services.inference.encoder.pooling import scores
from services.inference.encoder.request import TokenRow, Vector
from shared.contracts.embedding import TokenClass
from shared.contracts.manifest import EncoderSpec


def token_classes(
    spec: EncoderSpec, rows: Sequence[TokenRow], logits: Sequence[Vector]
) -> tuple[tuple[TokenClass, ...], ...]:
    """The most probable label of each token, without special tokens.

    Args:
        spec: The version's: its labels.
        rows: The texts, with offsets.
        logits: float32 `[tokens, labels]` of each text.
    """
    return tuple(_classes(spec, row, found) for row, found in zip(rows, logits, strict=True))


def _classes(spec: EncoderSpec, row: TokenRow, logits: Vector) -> tuple[TokenClass, ...]:
    assert row.offsets is not None, "the text was tokenised without offsets"
    found = scores(logits, spec.activation)
    best = found.argmax(axis=-1)
    return tuple(
        TokenClass(start=start, end=end, label=spec.labels[label], score=float(found[token, label]))
        for token, ((start, end), label) in enumerate(zip(row.offsets.tolist(), best.tolist(), strict=True))
        if start >= 0
    )
