"""Small random encoders as Hugging Face directories, made in milliseconds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

_TEXT = "a b c the quick brown fox jumps over lazy dog river bank money capital of france paris is ##s ##ing ? ! ."
WORDS = _TEXT.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = len(SPECIAL) + len(WORDS)
HIDDEN, LAYERS, HEADS, WIDE, POSITIONS = 32, 2, 4, 48, 40


def tokenizer_json() -> str:
    """WordPiece with BERT's normaliser and special tokens; asks for truncation and padding, as MiniLM's does."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    return tokenizer.to_str()


def write_small_encoder(
    folder: Path, *, family: str = "bert", labels: tuple[str, ...] = (), pooling: str = "mean",
    normalize: bool = True, of_tokens: bool = False, **config: Any,
) -> Path:  # fmt: skip
    """A random encoder in `folder`; with `labels` a classifier, of texts or of tokens. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    roberta = family != "bert"
    values = {
        "model_type": family,
        "architectures": [f"XFor{'Token' if of_tokens else 'Sequence'}Classification" if labels else "XModel"],
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": WIDE,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS + 2 * roberta,
        "type_vocab_size": 1 if roberta else 2,
        "layer_norm_eps": 1e-5 if roberta else 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 1 if roberta else 0,
        **({"id2label": {str(index): label for index, label in enumerate(labels)}} if labels else {}),
        **config,
    }
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "tokenizer.json").write_text(tokenizer_json())
    save_file(_tensors(values, labels, of_tokens=of_tokens), folder / "model.safetensors")
    if not labels:
        modules = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
        names = [{"idx": i, "path": f"{i}_{kind}" * (i > 0), "type": f"x.{kind}"} for i, kind in enumerate(modules)]
        (folder / "modules.json").write_text(json.dumps(names))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    return folder


def _tensors(values: dict[str, Any], labels: tuple[str, ...], *, of_tokens: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    tensors: dict[str, np.ndarray] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        tensors[f"{name}.weight"] = random.normal(0, 0.3, (outputs, inputs)).astype(np.float32)
        tensors[f"{name}.bias"] = random.normal(0, 0.1, outputs).astype(np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = random.normal(1, 0.1, HIDDEN).astype(np.float32)
        tensors[f"{name}.bias"] = random.normal(0, 0.1, HIDDEN).astype(np.float32)

    prefix = f"{'roberta' if values['model_type'] != 'bert' else 'bert'}." * bool(labels)
    for name, rows in (
        ("word", VOCABULARY),
        ("position", values["max_position_embeddings"]),
        ("token_type", values["type_vocab_size"]),
    ):
        table = random.normal(0, 0.5, (rows, HIDDEN)).astype(np.float32)
        tensors[f"{prefix}embeddings.{name}_embeddings.weight"] = table
    norm(f"{prefix}embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"{prefix}encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{at}.attention.self.{part}", HIDDEN, HIDDEN)
        linear(f"{at}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{at}.attention.output.LayerNorm")
        linear(f"{at}.intermediate.dense", HIDDEN, WIDE)
        linear(f"{at}.output.dense", WIDE, HIDDEN)
        norm(f"{at}.output.LayerNorm")
    if of_tokens:
        linear("classifier", HIDDEN, len(labels))
    elif labels and values["model_type"] == "bert":
        linear("bert.pooler.dense", HIDDEN, HIDDEN)
        linear("classifier", HIDDEN, len(labels))
    elif labels:
        linear("classifier.dense", HIDDEN, HIDDEN)
        linear("classifier.out_proj", HIDDEN, len(labels))
    return tensors
