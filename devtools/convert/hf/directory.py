"""A directory as `save_pretrained` of Hugging Face's transformers writes it: JSON files and safetensors.

Only JSON, Jinja and safetensors are read. Pickled weights (`pytorch_model.bin`) and modelling code can run anything
and are never opened.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devtools.convert.hf.safetensors_file import SafeTensor, read_safetensors
from shared.errors import CorruptFile, InvalidInput, NotFound, UnsupportedFormat

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_TEXT_BYTES = 200_000_000
"""The largest tokenizer.json in use has some 40 MB."""
MAX_JSON_BYTES = 32_000_000
"""Of what is parsed into objects, which take ten times as much; the largest index in use has some 10 MB."""
MAX_SHARDS = 4096
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.safetensors")


def is_model_directory(path: Path) -> bool:
    """Whether `path` looks like a directory of this kind: it has a configuration and weights."""
    weights = any((path / name).exists() for name in (INDEX, SINGLE, "pytorch_model.bin"))
    return (path / "config.json").is_file() and (weights or any(path.glob("*.safetensors")))


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """A text file of at most `limit` bytes; raises CorruptFile, NotFound or InvalidInput, naming the file."""
    try:
        if path.stat().st_size > limit:
            raise CorruptFile(f"{path.name} has more than {limit // 1_000_000} MB", param="source")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"{path.parent} has no {path.name}; download the model again", param="source") from None
    except UnicodeDecodeError:
        raise CorruptFile(f"{path.name} is not UTF-8 text; download it again", param="source") from None
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}", param="source") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises CorruptFile where the file is not one, NotFound where there is none."""
    try:
        value = json.loads(read_text(path, MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path.name} is not JSON ({error}); download it again", param="source") from None
    if not isinstance(value, dict):
        raise CorruptFile(f"{path.name} is not a JSON object; download it again", param="source")
    return value


def read_optional_json(path: Path) -> dict[str, Any]:
    """`read_json`, or an empty object where there is no such file."""
    return read_json(path) if path.exists() else {}


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of `folder`: those that its index names, else the only one.

    Raises:
        UnsupportedFormat: weights of another kind, or several files without an index.
        CorruptFile: an index that names a file that is missing or not a plain name in the folder.
    """
    if (folder / INDEX).exists():
        return tuple(folder / name for name in sorted({*_weight_map(folder).values()}))
    files = (folder / SINGLE,) if (folder / SINGLE).exists() else tuple(sorted(folder.glob("*.safetensors")))
    shard = next(
        (found for path in files if (found := _SHARD.fullmatch(path.name)) and int(found["count"]) > 1), None
    )
    if shard is not None:
        raise _incomplete(folder, shard)
    if len(files) == 1:
        return files
    if files:
        raise UnsupportedFormat(
            f"{folder} has {len(files)} safetensors files and no {INDEX} that says which belong to the model",
            param="source",
        )
    pickles = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth") for path in folder.glob(kind))
    if pickles:
        raise UnsupportedFormat(
            f"{folder} has weights only as {pickles[0]}, a pickle, which can run code when it is opened: take the"
            " model's safetensors files (transformers' save_pretrained writes them)",
            param="source",
        )
    raise UnsupportedFormat(f"{folder} has no safetensors files", param="source")


def _incomplete(folder: Path, shard: re.Match[str]) -> CorruptFile:
    """The error for shards without the index that lists them; names the first shard that is missing too."""
    count = min(int(shard["count"]), MAX_SHARDS)
    names = (f"{shard['stem']}-{i:05}-of-{shard['count']}.safetensors" for i in range(1, count + 1))
    missing = next((name for name in names if not (folder / name).is_file()), None)
    lacks = INDEX if missing is None else f"{missing} and {INDEX}"
    return CorruptFile(
        f"{shard[0]} is one of {int(shard['count'])} shards, and {folder} lacks {lacks}; download the model again",
        param="source",
    )


def read_tensors(folder: Path) -> Mapping[str, SafeTensor]:
    """Every tensor of the model, by the name that it has in the files.

    Raises:
        CorruptFile: a damaged file, a missing shard, a tensor that the index promises and no file has, or one that
            stands in two files.
        UnsupportedFormat: weights of another kind.
    """
    tensors: dict[str, SafeTensor] = {}
    for path in weight_files(folder):
        for name, tensor in read_safetensors(path).items():
            if name in tensors:
                raise CorruptFile(f"the tensor {name!r} stands in two files of {folder}", param="source")
            tensors[name] = tensor
    if (folder / INDEX).exists():
        lost = next((name for name in _weight_map(folder) if name not in tensors), None)
        if lost is not None:
            raise CorruptFile(
                f"{INDEX} promises the tensor {lost!r}, and no file has it; download the model again", param="source"
            )
    return tensors


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor to file name, from the index."""
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CorruptFile(f"{INDEX} has no 'weight_map'; download it again", param="source")
    names = set(index.values()) if all(isinstance(name, str) for name in index.values()) else {""}
    if len(names) > MAX_SHARDS:
        raise CorruptFile(f"{INDEX} names {len(names):,} files", param="source")
    for name in sorted(names):
        if "/" in name or "\\" in name or "\0" in name or not name.endswith(".safetensors"):
            raise CorruptFile(
                f"{INDEX} names the file {name[:80]!r}; expected safetensors files that lie beside it", param="source"
            )
        if not (folder / name).is_file():
            raise CorruptFile(f"{name}, which {INDEX} names, is missing; download the model again", param="source")
    return index
