"""The shape of an encoder and how its output is pooled, read from the files beside its weights.

| file | says |
|---|---|
| `config.json` | transformers' configuration: family, sizes, labels |
| `modules.json`, `*_Pooling/config.json` | sentence-transformers': pooling, normalising |
| `sentence_bert_config.json`, `tokenizer_config.json` | how long a text may be |
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from devtools.convert.fields import Fields
from devtools.convert.hf.directory import read_json, read_optional_json, read_text
from shared.contracts.manifest import Task
from shared.errors import CorruptFile, UnsupportedFormat

BERT, ROBERTA = ("bert",), ("roberta", "xlm-roberta", "camembert")
FAMILIES = (*BERT, *ROBERTA)
"""Graphs that are built from safetensors."""
Pooling = Literal["mean", "cls", "last", "none", "tokens"]
_POOLING: Mapping[str, Pooling] = {
    "cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean", "lasttoken": "last",
}  # fmt: skip
_HEADS: Mapping[str, Pooling] = {"ForSequenceClassification": "none", "ForTokenClassification": "tokens"}
"""Ends of architectures with a classifier's head: one row of numbers per text, or one per token."""
_UNLIMITED = 1_000_000
"""transformers writes 1e30 for a tokenizer without a limit."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """What the files say.

    Attributes:
        family: transformers' `model_type`.
        task: `embed`, or `classify` if the architecture has a classifier's head.
        hidden_size: Of a token's vector.
        layers: Blocks.
        heads: Of attention.
        feed_forward_size: The MLP's inner size.
        vocab_size: Rows of the word embedding.
        positions: Rows of the position embedding; tokens that a text may have in the graph.
        position_offset: Row of the first token.
        type_vocab_size: Rows of the token type embedding.
        norm_eps: Of the layer norms.
        activation: transformers' `hidden_act`.
        pad_token_id: Of padding.
        labels: Of a classifier.
        sigmoid: Whether a classifier's labels do not exclude one another, or there is one.
        pooling: Token vectors to one vector.
        normalize: Whether embeddings have length 1.
        max_len: Tokens of a text, special ones included, that the model is meant for.
    """

    family: str
    task: Task
    hidden_size: int
    layers: int
    heads: int
    feed_forward_size: int
    vocab_size: int
    positions: int
    position_offset: int
    type_vocab_size: int
    norm_eps: float
    activation: str
    pad_token_id: int
    labels: tuple[str, ...]
    sigmoid: bool
    pooling: Pooling
    normalize: bool
    max_len: int


def read_encoder_config(folder: Path) -> EncoderConfig:
    """What the files in `folder` say.

    Raises:
        NotFound: there is no `config.json`.
        CorruptFile: a value is missing or impossible.
        UnsupportedFormat: modules that LLMOS does not have, or a decoder.
    """
    values = read_json(folder / "config.json")
    fields = Fields(values)
    family = str(fields.get("model_type") or "")
    head = _head(fields)
    positions = fields.count("max_position_embeddings")
    pad = fields.get("pad_token_id") or 0
    # RoBERTa counts positions from the padding token's id on: fairseq's legacy.
    offset = pad + 1 if family in ROBERTA else 0
    if positions <= offset:
        raise CorruptFile(f"max_position_embeddings {positions} leaves no room for a text", param="source")
    labels = () if head is None else _labels(values)
    pooling, normalize = _pooling(folder) if head is None else (head, False)
    return EncoderConfig(
        family=family,
        task="embed" if head is None else "classify",
        hidden_size=fields.count("hidden_size"),
        layers=fields.count("num_hidden_layers"),
        heads=fields.count("num_attention_heads"),
        feed_forward_size=fields.count("intermediate_size"),
        vocab_size=fields.count("vocab_size"),
        positions=positions - offset,
        position_offset=offset,
        type_vocab_size=fields.count("type_vocab_size", 1),
        norm_eps=fields.positive("layer_norm_eps", 1e-12),
        activation=str(fields.get("hidden_act") or "gelu"),
        pad_token_id=pad,
        labels=labels,
        sigmoid=(len(labels) == 1 and head == "none") or fields.get("problem_type") == "multi_label_classification",
        pooling=pooling,
        normalize=normalize,
        max_len=_max_len(folder, positions - offset),
    )


def _head(fields: Fields) -> Pooling | None:
    """What a classifier's head classifies; None: there is none."""
    names = [str(name) for name in fields.get("architectures") or ()]
    return next((pooling for end, pooling in _HEADS.items() if any(end in name for name in names)), None)


def read_license(folder: Path) -> str | None:
    """`license:` of the model card's front matter."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    front = read_text(card).split("\n---", 1)[0]
    found = re.search(r"^license:\s*[\"']?([\w.+-]{1,80})", front, re.MULTILINE) if front.startswith("---") else None
    return found[1] if found else None


def _labels(values: Mapping[str, Any]) -> tuple[str, ...]:
    named = values.get("id2label")
    if named is None:
        return ("LABEL_0", "LABEL_1")
    if not isinstance(named, dict) or sorted(named) != sorted(str(index) for index in range(len(named))) or not named:
        raise CorruptFile("config.json: id2label must name the labels 0, 1, 2, …", param="source")
    return tuple(str(named[str(index)]) for index in range(len(named)))


def _pooling(folder: Path) -> tuple[Pooling, bool]:
    """Pooling and normalising; without sentence-transformers' files as its defaults are, and normalised."""
    modules = folder / "modules.json"
    if not modules.exists():
        return "mean", True
    pooling: Pooling = "mean"
    kinds = []
    for module in _modules(modules):
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        kinds.append(kind)
        if kind == "Pooling":
            pooling = _pooling_mode(read_json(folder / _inside(module.get("path")) / "config.json"))
        elif kind not in ("Transformer", "Normalize"):
            raise UnsupportedFormat(
                f"modules.json has the module {kind!r}; supported are Transformer, Pooling and Normalize",
                param="source",
            )
    return pooling, "Normalize" in kinds


def _modules(path: Path) -> list[dict[str, Any]]:
    try:
        modules = json.loads(read_text(path))
    except ValueError as error:
        raise CorruptFile(f"{path.name} is not JSON ({error})", param="source") from None
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CorruptFile(f"{path.name} is not a list of modules", param="source")
    return modules


def _inside(path: Any) -> str:
    if not isinstance(path, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", path):
        raise CorruptFile(f"modules.json names the folder {str(path)[:80]!r}", param="source")
    return path


def _pooling_mode(values: Mapping[str, Any]) -> Pooling:
    given = values.get("pooling_mode")
    prefix = "pooling_mode_"
    modes = (
        [given]
        if given
        else [name.removeprefix(prefix) for name, on in values.items() if on is True and name.startswith(prefix)]
    )
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise UnsupportedFormat(
            f"the pooling {', '.join(map(str, modes)) or 'none'} is not supported; supported is one of cls, mean and"
            " lasttoken",
            param="source",
        )
    return _POOLING[modes[0]]


def _max_len(folder: Path, positions: int) -> int:
    sentence = Fields(read_optional_json(folder / "sentence_bert_config.json"))
    if sentence.get("max_seq_length") is not None:
        return min(positions, sentence.count("max_seq_length"))
    limit = read_optional_json(folder / "tokenizer_config.json").get("model_max_length")
    return min(positions, int(limit)) if isinstance(limit, int | float) and 0 < limit < _UNLIMITED else positions
