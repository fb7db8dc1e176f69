"""Writes safetensors one tensor at a time, so that a full disk is an ordinary error and no copy of all is made.

Format: https://github.com/huggingface/safetensors#format.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64", torch.uint8: "U8"}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] = {}) -> None:
    """Write `tensors` in the order of their names and flush them to the disk; equal tensors give equal bytes.

    Args:
        path: The file.
        tensors: Contents.
        metadata: Texts for the header.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in sorted(tensors):
        values = tensors[name]
        begin, end = end, end + values.numel() * values.element_size()
        header[name] = {"dtype": _TYPES[values.dtype], "shape": list(values.shape), "data_offsets": [begin, end]}
    described = json.dumps(header, separators=(",", ":")).encode()
    described += b" " * (-len(described) % 8)
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for name in sorted(tensors):
            values = tensors[name].detach().cpu().contiguous()
            file.write(values.flatten().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
