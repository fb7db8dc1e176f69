"""The graph of a decoder for ONNX Runtime's CUDA provider."""
