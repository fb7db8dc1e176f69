"""A Llama with random weights that converts in a moment and computes a token in well under a millisecond."""

import json
from pathlib import Path

import gguf
import numpy as np

from tests.support.models.small_tokenizers import byte_level

CONTEXT = 512
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_small_gguf(
    path: Path, *, layers: int = 2, hidden: int = 64, heads: int = 4, kv_heads: int = 2, scale: float = 0.4
) -> Path:
    """Write the model, whose weights have the standard deviation `scale`; its EOS is token 2."""
    definition = json.loads(byte_level())
    vocab = definition["model"]["vocab"]
    added = {entry["id"]: entry for entry in definition["added_tokens"]}
    names = {index: token for token, index in vocab.items()} | {i: entry["content"] for i, entry in added.items()}
    tokens = [names[index] for index in range(len(names))]
    types = [1 if i not in added else 3 if added[i]["special"] else 4 for i in range(len(tokens))]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(2 * hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in definition["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * scale).astype(np.float32))

    head = hidden // heads
    weight("token_embd.weight", len(tokens), hidden)
    for layer in range(layers):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{norm}.weight", np.ones(hidden, dtype=np.float32))
        weight(f"{block}.attn_q.weight", hidden, hidden)
        weight(f"{block}.attn_k.weight", kv_heads * head, hidden)
        weight(f"{block}.attn_v.weight", kv_heads * head, hidden)
        weight(f"{block}.attn_output.weight", hidden, hidden)
        weight(f"{block}.ffn_gate.weight", 2 * hidden, hidden)
        weight(f"{block}.ffn_up.weight", 2 * hidden, hidden)
        weight(f"{block}.ffn_down.weight", hidden, 2 * hidden)
    writer.add_tensor("output_norm.weight", np.ones(hidden, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
