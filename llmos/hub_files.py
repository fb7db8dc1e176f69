"""Which files of a repository on the Hugging Face hub an import reads: pure.

Configuration, tokenizer, template and model card with safetensors or, without any, an exported ONNX graph; or one of
the repository's GGUFs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Self

from shared.errors import InvalidInput, NotFound, UnsupportedFormat

_REFERENCE = re.compile(r"hf:([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,128}))?(?::([\w.-]{1,64}))?")
_CONFIGURATION = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                  "special_tokens_map.json", "chat_template.json", "chat_template.jinja", "README.md",
                  "model.safetensors.index.json", "modules.json", "sentence_bert_config.json",
                  "*_Pooling/config.json")  # fmt: skip
_SAFETENSORS = ("model.safetensors", "model-?????-of-?????.safetensors")
_EXPORTED = ("model.onnx", "model.onnx[._]data"), ("onnx/model.onnx", "onnx/model.onnx[._]data")
"""Where exporters put a graph and its weights."""
GGUF = ".gguf"
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d\w*|BF16|F16|F32|MXFP4\w*))(?:-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE
)
"""`Q4_K_M` of `Llama-3.2-1B-Instruct-Q4_K_M.gguf`."""
_PART = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")


@dataclass(frozen=True, slots=True)
class HubModel:
    """`hf:org/name`, `hf:org/name@revision`, or with `:Q4_K_M` one of a repository's GGUF files.

    A revision is a branch, a tag or a commit.
    """

    repository: str
    revision: str = "main"
    quantization: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidInput naming the form."""
        match = _REFERENCE.fullmatch(text)
        if match is None or ".." in text:
            raise InvalidInput(
                f"{text}: expected hf:org/name, hf:org/name@revision, or hf:org/name:Q4_K_M for a GGUF",
                param="source",
            )
        return cls(match[1], match[2] or "main", match[3] or "")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository."""

    name: str
    """With its folders: `onnx/model.onnx`."""
    size: int
    sha256: str | None
    """None where the hub does not state it: for small files."""


def needed_files(model: HubModel, siblings: Sequence[HubFile]) -> list[HubFile]:
    """The files that an import reads.

    Raises:
        UnsupportedFormat: There are no weights that can be imported, or several GGUFs to choose from.
        NotFound: No GGUF has the quantization that is asked for.
    """
    ggufs = [file for file in siblings if file.name.endswith(GGUF) and "mmproj" not in file.name.lower()]
    weights = _matching(siblings, _SAFETENSORS)
    if not weights and not model.quantization:
        weights = next(filter(None, (_matching(siblings, place) for place in _EXPORTED)), [])
    if model.quantization or not weights:
        return _chosen(model, ggufs)
    return [*_matching(siblings, _CONFIGURATION), *weights]


def _matching(siblings: Sequence[HubFile], patterns: Sequence[str]) -> list[HubFile]:
    """Those whose whole path, folder by folder, is one of the patterns."""
    return [
        file
        for file in siblings
        if any(pattern.count("/") == file.name.count("/") and fnmatch(file.name, pattern) for pattern in patterns)
    ]


def _chosen(model: HubModel, ggufs: Sequence[HubFile]) -> list[HubFile]:
    """The GGUF that is meant, in all its parts."""
    by_name: dict[str, list[HubFile]] = {}
    for file in ggufs:
        found = _QUANTIZATION.search(file.name)
        by_name.setdefault((found[1] if found else PurePosixPath(file.name).name).upper(), []).append(file)
    if not by_name:
        missing = "GGUF" if model.quantization else "safetensors, no ONNX graph and no GGUF"
        raise UnsupportedFormat(f"{model.repository} has no {missing}", param="source")
    choices = ", ".join(f"hf:{model.repository}:{name}" for name in sorted(by_name))
    if not model.quantization and len(by_name) > 1:
        raise UnsupportedFormat(f"{model.repository} has no safetensors; choose one of {choices}", param="source")
    parts = by_name.get(model.quantization.upper()) if model.quantization else next(iter(by_name.values()))
    if parts is None:
        raise NotFound(f"{model.repository} has no {model.quantization}; it has {choices}", param="source")
    if len({_PART.sub("", file.name) for file in parts}) > 1:
        names = ", ".join(file.name for file in parts)
        raise UnsupportedFormat(
            f"{model.repository} has several files of this quantization ({names}): download one and import it",
            param="source",
        )
    return parts
