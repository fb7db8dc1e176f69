"""An adapter as PEFT's files: `adapter_config.json` and `adapter_model.safetensors`, read and written.

PEFT names the tensors `base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight`, as its `LoraModel` on
transformers' classes does. Those pair each dimension of a head with the one half a head away; a decoder whose source
pairs neighbours has the rows of B (and DoRA's lengths) of queries and keys in another order.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.hf.names import canonical_name, hf_name
from devtools.train.model.decoder import MATRICES, Decoder
from devtools.train.model.lora import Lora, LoraShape, adapted, add_lora
from devtools.train.tensors import write_tensors
from shared.errors import CorruptFile, InvalidInput, NotFound, UnsupportedFormat

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KEY = re.compile(r"base_model\.model\.(.+)\.(lora_A\.weight|lora_B\.weight|lora_magnitude_vector)")
_PARTS = {"lora_A.weight": "a", "lora_B.weight": "b", "lora_magnitude_vector": "length"}
_REFUSED = (
    "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication", "exclude_modules", "target_parameters",
    "trainable_token_indices", "lora_bias", "fan_in_fan_out", "alora_invocation_tokens", "arrow_config",
    "kasa_config", "monteclora_config", "velora_config", "use_bdlora", "use_qalora",
)  # fmt: skip
"""Keys that change what an adapter computes, unless they are empty."""


def to_halves(rows: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys from neighbours that form a pair to halves of a head that do (transformers' order)."""
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2).contiguous()


def to_neighbours(rows: Tensor, heads: int) -> Tensor:
    """The way back of `to_halves`."""
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2).contiguous()


def heads_of(arch: Architecture, name: str) -> int | None:
    """The heads whose rows the tensor `name` has in another order than transformers; None where the order agrees."""
    part = name.removesuffix(".bias").rsplit(".", 1)[-1]
    heads = {"attn_q": arch.heads, "attn_k": arch.kv_heads}.get(part)
    return heads if arch.rotary_interleaved else None


def write_peft(folder: Path, decoder: Decoder, shape: LoraShape, *, base: str) -> None:
    """Write the adapter of `decoder`, whose base is called `base`."""
    arch, tensors = decoder.arch, {}
    modules = []
    for name, _, lora in adapted(decoder):
        stored = hf_name(name, four_norms=arch.sandwich_norms).removesuffix(".weight")
        modules.append(stored.rsplit(".", 1)[-1])
        for suffix, part in _PARTS.items():
            values = getattr(lora, part)
            if values is None:
                continue
            heads = heads_of(arch, name) if part != "a" else None
            values = values.detach()
            tensors[f"{_PREFIX}{stored}.{suffix}"] = values if heads is None else to_halves(values, heads)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": shape.rank,
        "lora_alpha": shape.scale * shape.rank,
        "lora_dropout": shape.dropout,
        "target_modules": sorted(set(modules)),
        "use_dora": shape.dora,
        "use_rslora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_peft(folder: Path, decoder: Decoder, *, dropout: float = 0.0) -> LoraShape:
    """Give `decoder` the adapter in `folder`, to be trained on; returns its shape.

    Raises:
        NotFound: a file is missing.
        UnsupportedFormat: a kind of adapter, or a feature of it, that is not supported.
        CorruptFile: a file is damaged.
        InvalidInput: the adapter belongs to another model.
    """
    config, tensors = _read(folder)
    named = _by_layer(tensors, decoder.arch)
    shape = _shape(config, named, dropout=dropout)
    add_lora(decoder, shape, seed=0)
    expected = {name: (layer, lora) for name, layer, lora in adapted(decoder)}
    if expected.keys() != named.keys():
        odd = min(expected.keys() ^ named.keys())
        raise UnsupportedFormat(
            f"{WEIGHTS}: {odd!r} stands alone: an adapter has the same matrices in every layer", param="adapter"
        )
    with torch.no_grad():
        for name, (_, lora) in expected.items():
            _fill(lora, name, named[name], decoder.arch)
    return shape


def adapter_digest(folder: Path) -> str:
    """SHA-256 of both files; raises NotFound where one is missing."""
    _check_files(folder)
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in (CONFIG, WEIGHTS))).hexdigest()


def _check_files(folder: Path) -> None:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise NotFound(
                f"{folder} has no {name}; expected a folder as PEFT's save_pretrained writes it", param="adapter"
            )


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _check_files(folder)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return dict(config), load_file(folder / WEIGHTS)
    except (ValueError, TypeError, SafetensorError) as error:
        raise CorruptFile(f"the adapter in {folder} can't be read: {error}", param="adapter") from None


def _by_layer(tensors: Mapping[str, Tensor], arch: Architecture) -> dict[str, dict[str, Tensor]]:
    named: dict[str, dict[str, Tensor]] = {}
    for key, values in tensors.items():
        match = _KEY.fullmatch(key)
        stored = f"{match[1]}.weight" if match else key
        name = canonical_name(stored, four_norms=arch.sandwich_norms) if match else None
        if match is None or name is None or not name.startswith("blk."):
            raise UnsupportedFormat(
                f"{WEIGHTS}: {key!r} is not a part of a LoRA or DoRA on the matrices of layers; merge it first",
                param="adapter",
            )
        named.setdefault(name, {})[_PARTS[match[2]]] = values.float()
    return named


def _shape(config: Mapping[str, Any], named: Mapping[str, Any], *, dropout: float) -> LoraShape:
    if config.get("peft_type") != "LORA":
        raise UnsupportedFormat(
            f"{CONFIG}: peft_type is {config.get('peft_type')!r}; supported: LORA", param="adapter"
        )
    given = next((key for key in _REFUSED if config.get(key)), None)
    if given is not None or config.get("bias", "none") != "none":
        raise UnsupportedFormat(f"{CONFIG}: {given or 'bias'!r} is not supported; merge the adapter first",
                                param="adapter")  # fmt: skip
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise CorruptFile(f"{CONFIG}: 'r' and 'lora_alpha' must be numbers, 'r' above 0", param="adapter")
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    matrices = {name.rsplit(".", 1)[-1] for name in named}
    targets = tuple(name for name in MATRICES if name in matrices)  # the order in a file differs from load to load
    return LoraShape(rank, scale, targets, dropout, bool(config.get("use_dora")))


def _fill(lora: Lora, name: str, parts: Mapping[str, Tensor], arch: Architecture) -> None:
    for part in _PARTS.values():
        parameter = getattr(lora, part)
        if parameter is None:
            continue
        values = parts.get(part)
        if values is None or values.shape != parameter.shape:
            found = "missing" if values is None else f"of shape {tuple(values.shape)}"
            raise InvalidInput(
                f"{WEIGHTS}: the {part!r} of {name!r} is {found}, this base needs {tuple(parameter.shape)}:"
                " the adapter belongs to another model",
                param="adapter",
            )
        heads = heads_of(arch, name) if part != "a" else None
        parameter.copy_(values if heads is None else to_neighbours(values, heads))
