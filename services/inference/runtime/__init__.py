"""Models on ONNX Runtime: the only importer of onnxruntime in the services."""

import shared.privacy  # noqa: F401  # before the first import of onnxruntime
