"""An encoder that was exported as ONNX (by optimum, sentence-transformers, torch): read, checked, copied as it is."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import onnx

from devtools.convert.encoder.config import Pooling
from devtools.convert.external_data import data_files
from devtools.convert.onnx_file import read_onnx
from shared.contracts.manifest import EncoderInput
from shared.errors import UnsupportedFormat

PLACES = ("model.onnx", "onnx/model.onnx")
_STATES, _POOLED, _LOGITS = ("last_hidden_state", "token_embeddings"), ("sentence_embedding",), ("logits",)


@dataclass(frozen=True, slots=True)
class ExportedGraph:
    """A graph file, and what it says of itself.

    Attributes:
        path: The file.
        inputs: Of the texts.
        outputs: Names with their numbers of dimensions.
        data: Files of weights that lie beside it.
    """

    path: Path
    inputs: tuple[EncoderInput, ...]
    outputs: Mapping[str, int]
    data: tuple[Path, ...]

    def copy(self, destination: Path) -> None:
        """Copy the graph as `model.onnx`, and its weights under their names."""
        shutil.copyfile(self.path, destination / "model.onnx")
        for file in self.data:
            shutil.copyfile(file, destination / file.name)

    def choose_output(self, *, classifies: bool, pooling: Pooling) -> tuple[str, Pooling]:
        """The output to read, and how it is pooled: one that is pooled already needs it no more.

        Raises:
            UnsupportedFormat: none of the outputs is of a known name and shape.
        """
        accepted = [(name, 3 if pooling == "tokens" else 2) for name in (_LOGITS if classifies else _POOLED)]
        accepted += [] if classifies else [(name, 3) for name in _STATES]
        for name, dimensions in accepted:
            if self.outputs.get(name) == dimensions:
                return name, "none" if dimensions == 2 else pooling
        shown = ", ".join(f"{name} ({count} dimensions)" for name, count in self.outputs.items())
        expected = "logits" if classifies else "last_hidden_state, token_embeddings or sentence_embedding"
        raise UnsupportedFormat(f"the graph has the outputs {shown}; expected {expected}", param="source")


def find_exported(folder: Path) -> Path | None:
    """The exported graph in `folder`, or None."""
    return next((folder / place for place in PLACES if (folder / place).is_file()), None)


def read_exported(path: Path) -> ExportedGraph:
    """What the graph at `path` says.

    Raises:
        CorruptFile: It is no ONNX file, or weights are missing or not what their file can hold.
        UnsupportedFormat: inputs that LLMOS can't give it, or operators that come with code of their own.
    """
    model = read_onnx(path)
    known: tuple[EncoderInput, ...] = get_args(EncoderInput)
    constants = {tensor.name for tensor in model.graph.initializer}
    names = [put.name for put in model.graph.input if put.name not in constants]
    strange = [name for name in names if name not in known]
    if strange or "input_ids" not in names:
        raise UnsupportedFormat(
            f"{path.name} has the inputs {', '.join(names)}; an encoder takes input_ids, and may take attention_mask,"
            " token_type_ids and position_ids",
            param="source",
        )
    wrong = [put.name for put in model.graph.input if put.type.tensor_type.elem_type != onnx.TensorProto.INT64]
    if wrong:
        raise UnsupportedFormat(f"{path.name}: the input {wrong[0]} is not of type int64", param="source")
    return ExportedGraph(
        path=path,
        inputs=tuple(name for name in known if name in names),
        outputs={put.name: len(put.type.tensor_type.shape.dim) for put in model.graph.output},
        data=data_files(path, model),
    )
