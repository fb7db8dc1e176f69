import shared.privacy  # noqa: F401  # before the first import of onnxruntime
