"""Makes tiny random checkpoints with an encoder and a decoder, and what transformers generates with them.

Runs in the environment of `llmos tool install optimum`:

    TOOL/bin/python tests/support/references/make_seq2seq.py DESTINATION

writes DESTINATION/KIND with a checkpoint and `expected.json`. `tests/support/references/seq2seq` holds what
`llmos model import --with optimum` made of t5, bart and whisper, so that the suite needs neither torch nor optimum.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

WORDS = [
    "the",
    "a",
    "quick",
    "brown",
    "fox",
    "dog",
    "cat",
    "jumps",
    "runs",
    "over",
    "under",
    "lazy",
    "red",
    "blue",
    "house",
    "tree",
    "and",
    "or",
    "not",
]
MAX_NEW = 14


def tokenizer(path):
    """A word tokenizer: pad, end, unknown, begin, words; written to `path`."""
    vocab = {token: index for index, token in enumerate(["<pad>", "</s>", "<unk>", "<s>", *("▁" + w for w in WORDS)])}
    made = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>"
    )
    fast.save_pretrained(path)
    return len(vocab)


def model(kind, size):
    """A random model whose answers end after some tokens."""
    shape = {
        "vocab_size": size, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "pad_token_id": 0,
        "eos_token_id": 1, "forced_eos_token_id": None,
    }  # fmt: skip
    torch.manual_seed(7)
    if kind == "t5":
        made = T5ForConditionalGeneration(
            T5Config(
                vocab_size=size, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=2,
                decoder_start_token_id=0, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
            )
        )  # fmt: skip
    elif kind == "bart":
        made = BartForConditionalGeneration(
            BartConfig(**shape, max_position_embeddings=64, bos_token_id=3, decoder_start_token_id=1,
                       forced_bos_token_id=3)
        )  # fmt: skip
    elif kind == "marian":
        made = MarianMTModel(MarianConfig(**shape, max_position_embeddings=64, decoder_start_token_id=0))
    else:
        made = WhisperForConditionalGeneration(
            WhisperConfig(**shape, num_mel_bins=8, max_source_positions=20, max_target_positions=32, bos_token_id=3,
                          decoder_start_token_id=3, suppress_tokens=None, begin_suppress_tokens=None)
        )  # fmt: skip
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.4)
    return made.eval()


def expected(kind, made):
    """Sources and what transformers makes of them."""
    cases = []
    for index in range(5):
        torch.manual_seed(100 + index)
        if kind == "whisper":
            source = torch.randn(1, 8, 40)
            inputs, shown = {"input_features": source}, source[0].tolist()
        else:
            source = torch.randint(4, 4 + len(WORDS), (1, 3 + 2 * index))
            inputs, shown = {"input_ids": source}, source[0].tolist()
        answer = made.generate(**inputs, max_new_tokens=MAX_NEW, do_sample=False, num_beams=1)[0].tolist()
        if kind == "whisper":  # whose `generate` leaves the prompt out
            answer = [made.config.decoder_start_token_id, *answer]
        cases.append({"source": shown, "greedy": answer})
    return {"max_new_tokens": MAX_NEW, "cases": cases}


def main(root):
    """Write all kinds below `root`."""
    torch.set_num_threads(1)
    for kind in ("t5", "bart", "marian", "whisper"):
        folder = root / kind
        folder.mkdir(parents=True, exist_ok=True)
        made = model(kind, tokenizer(folder))
        made.save_pretrained(folder)
        saved = type(made).from_pretrained(folder).eval()  # Marian's positions are computed, never saved
        (folder / "expected.json").write_text(json.dumps(expected(kind, saved)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
