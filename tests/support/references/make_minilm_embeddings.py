"""Writes `minilm_embeddings.npy`: what sentence-transformers makes of `minilm_texts.TEXTS`. Run when those change.

python -m venv reference && reference/bin/pip install torch==2.13.0 sentence-transformers==6.2.0
PYTHONPATH=. reference/bin/python tests/support/references/make_minilm_embeddings.py MODEL_DIRECTORY
"""

import sys
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from tests.support.models.minilm_texts import TEXTS

if __name__ == "__main__":
    model = SentenceTransformer(sys.argv[1], device="cpu")
    np.save(Path(__file__).with_name("minilm_embeddings.npy"), model.encode(TEXTS, batch_size=1))
