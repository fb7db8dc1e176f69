"""Small random models with an encoder and a decoder, and what transformers generates with them.

`tests/support/references/make_seq2seq.py` made their checkpoints, `llmos model import --with optimum` the graphs.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from shared.contracts.manifest import FOLDER_MANIFEST, Manifest

FOLDER = Path(__file__).parent.parent / "references" / "seq2seq"
KINDS = ("t5", "bart", "whisper")


def small_seq2seq(kind: str) -> tuple[Path, Manifest]:
    """(folder of the version, its manifest)."""
    folder = FOLDER / kind
    return folder, Manifest.decode((folder / FOLDER_MANIFEST).read_bytes())


def expected(kind: str) -> dict[str, Any]:
    """`max_new_tokens`, and the cases: a source with the tokens of the greedy answer, its prefix included."""
    read: dict[str, Any] = json.loads((FOLDER / kind / "expected.json").read_text())
    return read


def source_of(case: dict[str, Any], kind: str) -> "np.ndarray[Any, Any]":
    """What the encoder reads."""
    return np.array(case["source"], dtype=np.float32 if kind == "whisper" else np.int64)
