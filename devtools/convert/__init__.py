"""GGUF or Hugging Face directory in, checked ONNX decoder graph out."""

from devtools.convert.gguf_model import convert_gguf
from devtools.convert.hf_model import convert_hf

__all__ = ["convert_gguf", "convert_hf"]
