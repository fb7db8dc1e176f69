"""GGUF, Hugging Face directory or exported encoder in, checked ONNX graph out."""

from devtools.convert.encoder_version import convert_encoder, is_encoder_directory
from devtools.convert.gguf_model import convert_gguf
from devtools.convert.hf_directory import is_model_directory
from devtools.convert.hf_model import convert_hf
from devtools.convert.quantised_version import Quantize

__all__ = [
    "Quantize",
    "convert_encoder",
    "convert_gguf",
    "convert_hf",
    "is_encoder_directory",
    "is_model_directory",
]
