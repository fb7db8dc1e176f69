"""The real MiniLM against what sentence-transformers made of the same texts."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.pooling import shortened
from services.inference.encoder.request import EncodeRequest
from services.inference.encoder.runner import EncoderRunner
from shared.errors import ContextLengthExceeded
from tests.support.models.minilm import minilm_directory
from tests.support.models.minilm_texts import SENTENCES, TEXTS, TOO_LONG

pytestmark = pytest.mark.slow

REFERENCE = np.load(Path(__file__).parents[2] / "support" / "references" / "minilm_embeddings.npy")
MAX_LEN = 256


def test_embeddings_are_those_of_sentence_transformers(encoder, tokenizer):
    vectors = encoder.run(tokenizer.texts(TEXTS, truncate=MAX_LEN))
    cosines = (vectors * REFERENCE).sum(axis=1)
    assert cosines.min() >= 0.9999
    np.testing.assert_allclose(vectors, REFERENCE, atol=1e-5)


def test_a_text_has_the_same_embedding_alone_and_in_any_batch(encoder, tokenizer):
    rows = tokenizer.texts(TEXTS, truncate=MAX_LEN)
    together = encoder.run(rows)
    alone = np.concatenate([encoder.run([row]) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_runner_gives_each_request_its_own_rows(encoder, tokenizer):
    limits = EncoderLimits(batch_tokens=128, fill_tokens=32)
    runner = EncoderRunner(_Borrowed(encoder), limits, max_len=MAX_LEN)
    futures = [
        runner.submit(EncodeRequest(f"r{start}", tokenizer.texts(TEXTS[start : start + 7], truncate=MAX_LEN)))
        for start in range(0, len(TEXTS), 7)
    ]
    runner.start()
    vectors = np.array([vector for future in futures for vector in future.result(timeout=60).vectors])
    runner.close()
    np.testing.assert_allclose(vectors, REFERENCE, atol=1e-5)


def test_tokens_are_those_of_the_published_tokenizer(tokenizer):
    published = Tokenizer.from_file(str(minilm_directory() / "tokenizer.json"))
    published.no_padding()
    published.enable_truncation(MAX_LEN)
    for text, row in zip(TEXTS, tokenizer.texts(TEXTS, truncate=MAX_LEN), strict=True):
        assert row.ids.tolist() == published.encode(text).ids, text


def test_a_text_that_is_too_long_is_refused_by_its_index(tokenizer):
    with pytest.raises(ContextLengthExceeded, match=r"input\.12 has \d+ tokens"):
        tokenizer.texts(["short", "short", TOO_LONG], first_index=10)


def test_shortened_embeddings_have_length_one_and_the_same_direction(encoder, tokenizer):
    (vector,) = encoder.run(tokenizer.texts(SENTENCES[:1]))
    short = shortened(vector, 64)
    np.testing.assert_allclose(short, vector[:64] / np.linalg.norm(vector[:64]), rtol=1e-6)
    assert short.shape == (64,)


class _Borrowed:
    """An encoder that its runner may not close."""

    def __init__(self, encoder) -> None:
        self.run = encoder.run

    def close(self) -> None:
        pass
