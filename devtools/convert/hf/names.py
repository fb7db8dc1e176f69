"""From the tensor names of Hugging Face's transformers to GGUF's.

The decoders of `families` name their tensors alike there. What differs is where norms stand (Gemma has four in a
layer, and calls one of them what others call another) and prefixes: a model that can also see keeps its language
model under `language_model.` or `model.language_model.`.
"""

import re

_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd",
    "model.norm.weight": "output_norm",
    "lm_head.weight": "output",
}
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
_EXPERT = re.compile(r"(?:mlp|block_sparse_moe)\.experts\.(\d{1,4})\.(\w+)")
_IN_EXPERT = {
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "w1": "ffn_gate",
    "w3": "ffn_up",
    "w2": "ffn_down",
}
"""Mixtral has names of its own."""
_FOUR_NORMS = _IN_LAYER | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_LAYER = re.compile(r"model\.layers\.(\d{1,4})\.(.+)\.(weight|bias)")
_PREFIXES = (("model.language_model.", "model."), ("language_model.lm_head.", "lm_head."), ("language_model.", ""))
_NOT_LANGUAGE = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
_COMPUTED = ("rotary_emb.inv_freq", "self_attn.bias", "self_attn.masked_bias")
"""Buffers that old versions saved; the architecture says what they hold."""


def canonical_name(name: str, *, four_norms: bool) -> str | None:
    """GGUF's name (without `.weight`) of the tensor that transformers calls `name`.

    Args:
        name: As it stands in a safetensors file.
        four_norms: Whether the family has norms after attention and MLP too (Gemma 3).

    Returns:
        None for a tensor that is computed, or that is not a part of the language model; `name` itself where it is
        unknown, so that the check of the tensors reports it.
    """
    if name.startswith(_NOT_LANGUAGE) or name.endswith(_COMPUTED):
        return None
    plain = name
    for prefix, replacement in _PREFIXES:
        if name.startswith(prefix):
            plain = replacement + name.removeprefix(prefix)
            break
    if plain in _OUTSIDE:
        return _OUTSIDE[plain]
    layer = _LAYER.fullmatch(plain)
    part = layer and _part(layer[2], four_norms=four_norms)
    if layer is None or part is None:
        return name
    return f"blk.{int(layer[1])}.{part}" + (".bias" if layer[3] == "bias" else "")


def _part(name: str, *, four_norms: bool) -> str | None:
    """The canonical name within a layer."""
    expert = _EXPERT.fullmatch(name)
    if expert is None:
        return (_FOUR_NORMS if four_norms else _IN_LAYER).get(name)
    part = _IN_EXPERT.get(expert[2])
    return part and f"{part}.{int(expert[1])}"


def hf_name(name: str, *, four_norms: bool) -> str:
    """The name in a safetensors file of the tensor that a GGUF calls `name` (without `.weight`): the way back."""
    outside = {canonical: stored for stored, canonical in _OUTSIDE.items()}
    if name in outside:
        return outside[name]
    _, layer, part = name.split(".", 2)
    in_layer = {canonical: stored for stored, canonical in (_FOUR_NORMS if four_norms else _IN_LAYER).items()}
    stored = in_layer[part.removesuffix(".bias")]
    return f"model.layers.{layer}.{stored}.{'bias' if part.endswith('.bias') else 'weight'}"
