"""A model from scratch: a Llama by size, with a byte-level BPE of its own."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from devtools.convert.decoder.architecture import Architecture, LayerAttention
from devtools.convert.decoder.rope import Rope, plain
from devtools.convert.decoder_version import DecoderModel
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.model_text import ModelText
from devtools.convert.source import Rows
from shared.errors import CorruptFile

SIZES = {"nano": (4, 128, 4, 352), "micro": (4, 256, 4, 704), "small": (8, 512, 8, 1408)}
"""Layers, hidden size, heads, feed-forward size: about 1, 4 and 30 million parameters."""
CONTEXT = 1024
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_THETA, _EPSILON = 10_000.0, 1e-5


class ArraySource:
    """Float32 arrays by GGUF's names (a `WeightSource`)."""

    def __init__(self, arrays: dict[str, Floats]) -> None:
        self._arrays = arrays

    def names(self) -> tuple[str, ...]:
        """Every tensor."""
        return tuple(self._arrays)

    def has(self, name: str) -> bool:
        """Whether there is a tensor `name`."""
        return name in self._arrays

    def shape(self, name: str) -> tuple[int, ...]:
        """Row-major."""
        return self.dequantise(name).shape

    def type_name(self, name: str) -> str:
        """Always `F32`."""
        del name
        return "F32"

    def matrix(self, name: str) -> Floats:
        """The matrix."""
        return self.dequantise(name)

    def vector(self, name: str) -> Floats:
        """The vector."""
        return self.dequantise(name)

    def dequantise(self, name: str, rows: Rows = slice(None)) -> Floats:
        """`rows` of the tensor."""
        if name not in self._arrays:
            raise CorruptFile(f"the tensor {name!r} is missing", param="source")
        return self._arrays[name][rows]


def train_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """A byte-level BPE (https://arxiv.org/abs/1508.07909) of at most `vocab` tokens; the first are `SPECIAL`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def new_model(tokenizer: Tokenizer, size: str, *, seed: int, context_length: int = CONTEXT) -> DecoderModel:
    """A Llama of `size` with random weights."""
    layers, hidden, heads, wide = SIZES[size]
    rope = Rope("global", plain(_THETA, hidden // heads))
    arch = Architecture(
        family="llama", hidden_size=hidden, feed_forward_size=wide, heads=heads, kv_heads=heads,
        head_dim=hidden // heads, vocab_size=tokenizer.get_vocab_size(), context_length=context_length,
        norm_epsilon=_EPSILON, rotary_interleaved=False, attention=(LayerAttention(rope),) * layers, tied_head=True,
    )  # fmt: skip
    text = ModelText(
        tokenizer=tokenizer, chat_template=TEMPLATE, bos_token_id=0, add_bos_token=True, eos_token_ids=(0, 2)
    )
    return DecoderModel(
        source=f"{size} from scratch", digest="", architecture=arch,
        weights=ArraySource(_random_weights(arch, np.random.default_rng(seed))), text=text,
    )  # fmt: skip


def _random_weights(arch: Architecture, random: np.random.Generator) -> dict[str, Floats]:
    """Scaled so that activations keep their size; what is added to the residual stream is smaller in deep models."""

    def matrix(rows: int, columns: int, size: float) -> np.ndarray[Any, np.dtype[np.float32]]:
        return (size * random.standard_normal((rows, columns))).astype(np.float32)

    hidden, wide = arch.hidden_size, arch.feed_forward_size
    inner, outer = hidden**-0.5, 1 / math.sqrt(2 * arch.layers)
    weights: dict[str, Floats] = {
        "token_embd": matrix(arch.vocab_size, hidden, 0.05),
        "output_norm": np.ones(hidden, np.float32),
    }
    for layer in range(arch.layers):
        name = f"blk.{layer}"
        weights |= {f"{name}.{norm}": np.ones(hidden, np.float32) for norm in ("attn_norm", "ffn_norm")}
        weights |= {f"{name}.{part}": matrix(hidden, hidden, inner) for part in ("attn_q", "attn_k", "attn_v")}
        weights[f"{name}.attn_output"] = matrix(hidden, hidden, inner * outer)
        weights |= {f"{name}.{part}": matrix(wide, hidden, inner) for part in ("ffn_gate", "ffn_up")}
        weights[f"{name}.ffn_down"] = matrix(hidden, wide, wide**-0.5 * outer)
    return weights
