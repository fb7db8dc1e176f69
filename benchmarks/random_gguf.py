"""Writes a GGUF of a real model's shape with random weights, in the types of llama.cpp's Q4_K_M.

    python -m benchmarks.random_gguf FILE --shape 1b|3b|8b

The shapes are those of Llama 3.2 1B and 3B and of Llama 3.1 8B. What a model of that shape costs (memory, time of an
import, time per token) depends on its shape and types, and not on what it learnt. The file has a byte-level
vocabulary of the right size: bytes, and pairs and triples of letters. One tensor is in memory at a time.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

VOCABULARY, SPECIAL = 128_256, ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
_CHUNK = 1 << 25
"""Bytes of random numbers that are made at once."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Llama."""

    layers: int
    hidden: int
    wide: int
    heads: int
    kv_heads: int
    tied_head: bool
    head_dim: int = 128


SHAPES = {
    "1b": Shape(layers=16, hidden=2048, wide=8192, heads=32, kv_heads=8, tied_head=True, head_dim=64),
    "3b": Shape(layers=28, hidden=3072, wide=8192, heads=24, kv_heads=8, tied_head=True),
    "8b": Shape(layers=32, hidden=4096, wide=14_336, heads=32, kv_heads=8, tied_head=False),
}


def write_random_gguf(path: Path, shape: Shape, *, layers: int = 0, context_length: int = 8192) -> Path:
    """Write `path`; with `layers`, a model of so many instead of the shape's own. Returns `path`."""
    layers = layers or shape.layers
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(context_length)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.wide)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    _add_vocabulary(writer)
    tensors = list(_tensors(shape, layers))
    for name, rows, columns, kind in tensors:
        row_bytes = columns // GGML_QUANT_SIZES[kind][0] * GGML_QUANT_SIZES[kind][1]
        if rows:
            writer.add_tensor_info(name, (rows, row_bytes), np.dtype(np.uint8), rows * row_bytes, kind)
        else:
            writer.add_tensor_info(name, (columns,), np.dtype(np.float32), 4 * columns, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(0)
    for _, rows, columns, kind in tensors:
        writer.write_tensor_data(_random_rows(random, kind, rows, columns) if rows else np.ones(columns, np.float32))
    writer.close()
    return path


def _tensors(shape: Shape, layers: int) -> Iterator[tuple[str, int, int, Type]]:
    """Name, rows (0: a vector), columns and type, as `llama-quantize` chooses types for Q4_K_M."""
    hidden, queries, keys = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "token_embd.weight", VOCABULARY, hidden, Type.Q6_K if shape.tied_head else Type.Q4_K
    for layer in range(layers):
        eighth = layers // 8
        more_bits = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
        better = Type.Q6_K if more_bits else Type.Q4_K
        name = f"blk.{layer}"
        yield f"{name}.attn_norm.weight", 0, hidden, Type.F32
        yield f"{name}.attn_q.weight", queries, hidden, Type.Q4_K
        yield f"{name}.attn_k.weight", keys, hidden, Type.Q4_K
        yield f"{name}.attn_v.weight", keys, hidden, better
        yield f"{name}.attn_output.weight", hidden, queries, Type.Q4_K
        yield f"{name}.ffn_norm.weight", 0, hidden, Type.F32
        yield f"{name}.ffn_gate.weight", shape.wide, hidden, Type.Q4_K
        yield f"{name}.ffn_up.weight", shape.wide, hidden, Type.Q4_K
        yield f"{name}.ffn_down.weight", hidden, shape.wide, better
    yield "output_norm.weight", 0, hidden, Type.F32
    if not shape.tied_head:
        yield "output.weight", VOCABULARY, hidden, Type.Q6_K


def _random_rows(random: np.random.Generator, kind: Type, rows: int, columns: int) -> np.ndarray:
    """uint8 [rows, bytes per row]: random codes, with scales that make a product as large as its input."""
    size, size_bytes = GGML_QUANT_SIZES[kind]
    blocks = np.empty((rows * columns // size, size_bytes), np.uint8)
    flat = blocks.reshape(-1)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK]
        part[:] = np.frombuffer(random.bytes(len(part)), np.uint8)
    spread = random.uniform(0.7, 1.3, len(blocks)) / np.sqrt(columns)
    if kind is Type.Q4_K:  # scale * (0 to 63) * (0 to 15) less 7.5 times that scale * (0 to 63)
        _set_half(blocks, 0, spread / (36 * 4.6))
        _set_half(blocks, 2, 7.5 * spread / (36 * 4.6))
    else:  # scale * (-128 to 127) * (-32 to 31)
        _set_half(blocks, 208, spread / (74 * 18.5))
    return blocks.reshape(rows, -1)


def _set_half(blocks: np.ndarray, at: int, values: np.ndarray) -> None:
    blocks[:, at : at + 2] = values.astype("<f2")[:, None].view(np.uint8)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    stand_ins = iter(range(256, 512))
    letters = [chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256)]
    alphabet = f"Ġ{ascii_lowercase}{ascii_uppercase}{digits}"  # a space, in GPT-2's alphabet of bytes
    pairs = list(product(alphabet, alphabet))
    triples = (("".join(pair), letter) for pair, letter in product(pairs, alphabet))
    count = VOCABULARY - len(letters) - len(pairs) - len(SPECIAL)
    merges = [*pairs, *islice(triples, count)]
    tokens = [*letters, *("".join(merge) for merge in merges), *SPECIAL]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - len(SPECIAL)) + [3] * len(SPECIAL))
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(VOCABULARY - 3)
    writer.add_eos_token_id(VOCABULARY - 1)
    writer.add_add_bos_token(True)
    writer.add_chat_template(_TEMPLATE)


def main() -> None:
    """Write the file that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--layers", type=int, default=0, help="fewer layers than the shape has")
    options = parser.parse_args()
    write_random_gguf(options.file, SHAPES[options.shape], layers=options.layers)
    print(f"{options.file}: {options.file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
