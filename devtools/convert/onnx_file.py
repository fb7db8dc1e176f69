"""An ONNX file of a stranger: read without its weights, refused where its operators come with code of their own."""

from pathlib import Path

import onnx

from shared.errors import CorruptFile, UnsupportedFormat

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Of operators; others would need code that comes with the model."""
_SHOWN = 5
"""Operators that a message names."""


def read_onnx(path: Path) -> onnx.ModelProto:
    """The graph at `path` without the weights beside it.

    Raises:
        CorruptFile: It is no ONNX file.
        UnsupportedFormat: It has operators that come with code of their own; the message names them.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf and onnx raise what they like
        raise CorruptFile(f"{path.name} is not an ONNX file ({error}); download it again", param="source") from error
    foreign = sorted({item.domain for item in model.opset_import} - set(_DOMAINS))
    if foreign or model.functions:
        used = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain in foreign})
        shown = f" ({', '.join(used[:_SHOWN])})" if used else ""
        raise UnsupportedFormat(
            f"{path.name} uses operators of {', '.join(foreign) or 'its own'}{shown}; supported are those of ONNX and"
            " ONNX Runtime",
            param="source",
        )
    return model
