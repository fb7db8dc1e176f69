"""GGUF or Hugging Face directory in, checked ONNX decoder graph out."""

from devtools.convert.gguf_model import convert_gguf
from devtools.convert.hf_directory import is_model_directory
from devtools.convert.hf_model import convert_hf
from devtools.convert.quantised_version import Quantize

__all__ = ["Quantize", "convert_gguf", "convert_hf", "is_model_directory"]
