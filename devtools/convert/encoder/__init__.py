"""Converts encoders: BERT and RoBERTa, from safetensors or exported ONNX."""
