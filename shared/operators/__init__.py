"""Operators that ONNX Runtime lacks, in its own form for them: a library of custom operators, domain `llmos`.

`MatMulBlocks(x, matrix, bias?)` multiplies by a quantised matrix, rounding its input to int8 by blocks and, with a
`gate`, activating it first; `GatherBlocks(ids, matrix)` reads rows of one. Both have the attributes `N` and `K` (rows
and columns of the matrix), `bits` (4 or 8), `block` (16 or 32 columns that share a scale), `offsets` (0 or 1) and `gate`
(0 none, 1 SiLU, 2 GELU).

Why not ONNX Runtime's `MatMulNBits`: it gives a row alone other bits than in a batch, takes three more nodes for a type
with offsets, and on x86 without VNNI is two to three times slower where many rows are multiplied (docs/performance.md).
"""

from pathlib import Path
from typing import Protocol

from shared.errors import InvalidInput

DOMAIN = "llmos"
VERSION = 1
LIBRARY = Path(__file__).parent / "liboperators.so"


class _Options(Protocol):
    def register_custom_ops_library(self, path: str) -> None: ...


def register(options: _Options) -> None:
    """Let a session with these options (`onnxruntime.SessionOptions`) load graphs that have the operators.

    Raises:
        InvalidInput: The library was not built.
    """
    if not LIBRARY.is_file():
        raise InvalidInput(
            f"{LIBRARY} is missing: build it with `python -m shared.operators.build`, or install LLMOS again",
            param="operators",
        )
    options.register_custom_ops_library(str(LIBRARY))
