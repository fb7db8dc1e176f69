"""Makes `small_sentencepiece.json`: a vocabulary that the sentencepiece library learnt, and the ids it gives.

Run by hand, in an environment with sentencepiece 0.2, from the repository's root, with any English text file:

    python -m tests.support.references.make_small_sentencepiece TEXT
"""

import io
import json
import sys
from pathlib import Path

import sentencepiece

from tests.support.models.awkward_text import AWKWARD

FIXTURE = Path(__file__).with_name("small_sentencepiece.json")


def main(text: Path) -> None:
    cases = {}
    for prefix in (True, False):
        model = io.BytesIO()
        # As Llama 2's was trained: nothing normalised, no space removed, bytes for what is no piece.
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_writer=model, vocab_size=700, model_type="bpe", byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=prefix,
            user_defined_symbols=["<tool>"], allow_whitespace_only_pieces=True, split_digits=True,
            max_sentence_length=100_000, minloglevel=2,
        )  # fmt: skip
        learnt = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        pieces = range(learnt.get_piece_size())
        cases[str(prefix)] = {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": [learnt.id_to_piece(i) for i in pieces],
            "tokenizer.ggml.scores": [learnt.get_score(i) for i in pieces],
            "tokenizer.ggml.token_type": [_type(learnt, i) for i in pieces],
            "tokenizer.ggml.bos_token_id": learnt.bos_id(),
            "tokenizer.ggml.eos_token_id": learnt.eos_id(),
            "tokenizer.ggml.unknown_token_id": learnt.unk_id(),
            "tokenizer.ggml.add_space_prefix": prefix,
            "ids": {
                line: learnt.encode(line)
                for line in [*AWKWARD, *([] if prefix else ["call <tool>it</tool> <tool> twice"])]
            },
        }
    FIXTURE.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def _type(learnt: sentencepiece.SentencePieceProcessor, number: int) -> int:
    """`tokenizer.ggml.token_type`, as llama.cpp's converter finds it."""
    if learnt.is_unknown(number):
        return 2
    if learnt.is_control(number):
        return 3
    if learnt.is_byte(number):
        return 6
    return 4 if learnt.id_to_piece(number) == "<tool>" else 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
