"""Speed and memory beside a peer or a bound, one JSON line per point."""

import shared.privacy  # noqa: F401  # before the first import of onnxruntime
