"""GGUF, Hugging Face directory or exported encoder in, checked ONNX graph out."""

import shared.privacy  # noqa: F401  # before the first import of onnxruntime
from devtools.convert.cuda.graph import add_cuda_graph
from devtools.convert.encoder.version import convert_encoder, is_encoder_directory
from devtools.convert.from_gguf import convert_gguf
from devtools.convert.from_hf import convert_hf
from devtools.convert.hf.directory import is_model_directory
from devtools.convert.source_digest import source_digest
from devtools.convert.tensor.version import CONVERSION, convert_tensor, tensor_digest

__all__ = [
    "CONVERSION",
    "add_cuda_graph",
    "convert_encoder",
    "convert_gguf",
    "convert_hf",
    "convert_tensor",
    "is_encoder_directory",
    "is_model_directory",
    "source_digest",
    "tensor_digest",
]
