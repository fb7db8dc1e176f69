"""Texts of mixed lengths and scripts, one of them longer than MiniLM reads: the reference embeddings are of these."""

from tests.support.models.awkward_text import AWKWARD

SENTENCES = [
    "What is the capital of France?",
    "Paris is the capital of France.",
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "A machine-learning model maps each sentence to a vector; vectors of similar sentences lie close together.",
]
LONG = " ".join(SENTENCES * 5)
TOO_LONG = " ".join(SENTENCES * 12)
"""Cut by sentence-transformers at 256 tokens."""
TEXTS = [*SENTENCES, LONG, TOO_LONG, *AWKWARD]
