"""An adapter that a program left, as PEFT's files, merged into the base that the program got. Needs no PyTorch.

`W + scale * B A` for each matrix (LoRA, https://arxiv.org/abs/2106.09685), with the rows brought back to their learnt
lengths where the adapter has them (DoRA, https://arxiv.org/abs/2402.09353).
"""

import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from devtools.convert.graph.block_matrix import Floats
from devtools.convert.hf.directory import SINGLE, read_json
from devtools.convert.hf.safetensors_file import read_safetensors
from devtools.train.result.folders import whole_folder
from devtools.train.result.hf_directory import write_arrays
from shared.errors import CorruptFile, InvalidInput, UnsupportedFormat

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_KEY = re.compile(r"base_model\.model\.(?P<matrix>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?")
_REFUSED = (
    "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication", "target_parameters",
    "trainable_token_indices", "fan_in_fan_out",
)  # fmt: skip
"""Keys that change what an adapter computes, unless they are empty."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder looks like one that PEFT's `save_pretrained` wrote."""
    return (folder / CONFIG).is_file()


def merge_adapter(adapter: Path, base: Path, destination: Path) -> None:
    """Write `base` with `adapter` merged to `destination`, which must not exist.

    Args:
        adapter: PEFT's folder.
        base: A Hugging Face directory with one file of weights.
        destination: Whole or absent, whatever happens.

    Raises:
        UnsupportedFormat: A kind of adapter that can't be merged here.
        InvalidInput: The adapter belongs to another model.
        CorruptFile: A file is damaged.
        StorageFull: No room.
    """
    scale = _scale(read_json(adapter / CONFIG))
    weights = {name: tensor.values() for name, tensor in read_safetensors(base / SINGLE).items()}
    for matrix, parts in _parts(adapter / WEIGHTS).items():
        name = f"{matrix}.weight"
        if name not in weights:
            raise InvalidInput(f"{WEIGHTS}: the base has no {name!r}: the adapter belongs to another model")
        weights[name] = _merged(weights[name], parts, scale, name)
    with whole_folder(destination) as staging:
        for path in base.iterdir():
            if path.name != SINGLE:
                shutil.copyfile(path, staging / path.name)
        write_arrays(staging / SINGLE, weights)


def _scale(config: dict[str, Any]) -> float:
    if config.get("peft_type") != "LORA":
        raise UnsupportedFormat(f"{CONFIG}: peft_type is {config.get('peft_type')!r}; supported: LORA")
    given = next((key for key in _REFUSED if config.get(key)), None)
    if given is not None or config.get("bias", "none") != "none":
        raise UnsupportedFormat(
            f"{CONFIG}: {given or 'bias'!r} is not supported; merge the adapter in the program (merge_and_unload),"
            " and leave a model"
        )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise CorruptFile(f"{CONFIG}: 'r' and 'lora_alpha' must be numbers, 'r' above 0")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _parts(path: Path) -> dict[str, dict[str, Floats]]:
    found: dict[str, dict[str, Floats]] = {}
    for key, tensor in read_safetensors(path).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise UnsupportedFormat(f"{WEIGHTS}: {key!r} is not a part of a LoRA or DoRA on matrices")
        found.setdefault(match["matrix"], {})[match["part"]] = tensor.values()
    if not found:
        raise CorruptFile(f"{WEIGHTS} has no tensors")
    return found


def _merged(weight: Floats, parts: dict[str, Floats], scale: float, name: str) -> Floats:
    a, b, lengths = (parts.get(part) for part in ("lora_A", "lora_B", "lora_magnitude_vector"))
    if a is None or b is None or (b.shape[0], a.shape[1]) != weight.shape or a.shape[0] != b.shape[1]:
        shapes = " and ".join(str(part.shape) if part is not None else "nothing" for part in (a, b))
        raise InvalidInput(
            f"{WEIGHTS}: A and B of {name!r} are {shapes}, the base's matrix is {weight.shape}: the adapter belongs"
            " to another model"
        )
    merged: Floats = weight + np.float32(scale) * (b @ a)
    if lengths is not None:
        merged *= (lengths.reshape(-1) / np.linalg.norm(merged, axis=1))[:, None]
    return merged
