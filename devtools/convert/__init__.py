"""GGUF in, checked ONNX decoder graph out."""

from devtools.convert.gguf_model import convert_gguf

__all__ = ["convert_gguf"]
