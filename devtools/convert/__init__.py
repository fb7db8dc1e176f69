"""GGUF in, checked ONNX decoder graph out."""
