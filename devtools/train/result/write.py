"""The result of a run: an adapter as PEFT's files, or a model as a Hugging Face directory, and where it came from."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from devtools.convert.decoder_version import DecoderModel
from devtools.train.model.decoder import Decoder
from devtools.train.model.lora import LoraShape
from devtools.train.model.peft import write_peft
from devtools.train.result.folders import folder_digest, whole_folder
from devtools.train.result.hf_directory import write_hf_directory

ResultKind = Literal["adapter", "model"]
RECORD = "training.json"


@dataclass(frozen=True, slots=True)
class Adapter:
    """The adapter of `decoder`."""

    decoder: Decoder
    shape: LoraShape


@dataclass(frozen=True, slots=True)
class Weights:
    """Every tensor by GGUF's names without `.weight`, and the config of `hf_config`."""

    config: Mapping[str, Any]
    tensors: Iterable[tuple[str, Tensor]]


def write_result(
    folder: Path,
    model: DecoderModel,
    contents: Adapter | Weights,
    *,
    record: Mapping[str, Any],
) -> str:
    """Write `folder`, which must not exist; returns its digest.

    Equal runs leave equal bytes: nothing in it is a time or a path.

    Args:
        folder: Whole or absent, whatever happens.
        model: The base.
        contents: What was trained.
        record: Where it came from; written as `training.json`.

    Raises:
        StorageFull: no room.
    """
    with whole_folder(folder) as staging:
        if isinstance(contents, Weights):
            write_hf_directory(staging, model, contents.config, contents.tensors)
        else:
            write_peft(staging, contents.decoder, contents.shape, base=model.digest)
        (staging / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder_digest(folder)
