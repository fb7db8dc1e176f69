"""Real tokenizers that are made in milliseconds, one of each kind that models come with."""

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = (
    "The quick brown fox jumps over the lazy dog. Ein schöner Tag für Bücher; 你好、世界。 "
    "Emoji 👩‍👩‍👧‍👦 🇩🇪 👍🏽 and code: def f(x):\n    return x ** 2  # «ok»\n1234567890"
)


def byte_level(vocab_size: int = 400) -> str:
    """`tokenizer.json` of a GPT-2 kind: 0 <|endoftext|>, 1 <|im_start|>, 2 <|im_end|>, then bytes and merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    tokenizer.add_tokens([AddedToken("<tool é>", special=False)])
    return str(tokenizer.to_str())


def byte_fallback() -> str:
    """`tokenizer.json` of a SentencePiece kind: 0 <unk>, 1 <s>, 2 </s>, then 256 bytes, then pieces."""
    pieces = ["▁", "H", "e", "l", "o", "▁H", "el", "▁Hel", "lo", "▁Hello", "w", "r", "d", "é", "你"]
    vocab = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    merges = [["▁", "H"], ["e", "l"], ["▁H", "el"], ["l", "o"], ["▁Hel", "lo"]]
    definition = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": index,
                "content": vocab[index],
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for index in range(3)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: index for index, piece in enumerate(vocab)},
            "merges": merges,
        },
    }
    return json.dumps(definition)
