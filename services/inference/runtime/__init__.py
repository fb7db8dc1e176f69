"""Models on ONNX Runtime: the only importer of onnxruntime in the services."""
