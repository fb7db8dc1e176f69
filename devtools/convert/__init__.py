"""GGUF, Hugging Face directory or exported encoder in, checked ONNX graph out."""

from devtools.convert.cuda_graph import add_cuda_graph
from devtools.convert.encoder_version import convert_encoder, is_encoder_directory
from devtools.convert.gguf_model import convert_gguf
from devtools.convert.hf_directory import is_model_directory
from devtools.convert.hf_model import convert_hf

__all__ = [
    "add_cuda_graph",
    "convert_encoder",
    "convert_gguf",
    "convert_hf",
    "is_encoder_directory",
    "is_model_directory",
]
