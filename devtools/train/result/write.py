"""The result of a run: an adapter as PEFT's files, or a model as a Hugging Face directory, and where it came from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from devtools.convert.decoder_version import DecoderModel
from devtools.train.model.decoder import Decoder
from devtools.train.model.lora import LoraShape, merged_weights
from devtools.train.model.peft import write_peft
from devtools.train.result.folders import folder_digest, whole_folder
from devtools.train.result.hf_directory import write_hf_directory

ResultKind = Literal["adapter", "model"]
RECORD = "training.json"


def write_result(
    folder: Path,
    decoder: Decoder,
    model: DecoderModel,
    *,
    shape: LoraShape | None,
    config: Mapping[str, Any] | None,
    record: Mapping[str, Any],
) -> str:
    """Write `folder`, which must not exist; returns its digest.

    Equal runs leave equal bytes: nothing in it is a time or a path.

    Args:
        folder: Whole or absent, whatever happens.
        decoder: As it was trained.
        model: The base.
        shape: Of the adapter; None where all weights were trained.
        config: Of `hf_config`, to write a model; None to write the adapter.
        record: Where it came from; written as `training.json`.

    Raises:
        StorageFull: no room.
    """
    with whole_folder(folder) as staging:
        if config is not None:
            write_hf_directory(staging, model, config, merged_weights(decoder))
        else:
            assert shape is not None
            write_peft(staging, decoder, shape, base=model.digest)
        (staging / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder_digest(folder)
