"""Operators that ONNX Runtime lacks, as a library of custom operators in its own form: domain `llmos`.

- `MatMulBlocks(x, matrix, bias?)` multiplies by a quantised matrix. Its input is rounded to int8 by blocks and,
  with a `gate`, activated before.
- `GatherBlocks(ids, matrix)` reads rows of one. Both have the attributes `N` and `K` (rows and columns of the
  matrix) and `gate` (0 none, 1 SiLU, 2 GELU), and how the matrix is stored: `ggml_type` for a type of GGUF (its
  number), or for LLMOS's own form `bits` (4 or 8), `block` (16 or 32 columns that share a scale) and `offsets` (0 or
  1).
- `MatMulExperts(x, experts, matrix, weights?)` multiplies each row by the matrices of its own experts, and
  `RouteExperts(x, router)` chooses those (docs/adr/0050).
- `CachedAttention` is rotary grouped-query attention over a cache that is updated in place.

They have no kernels but for the CPU. With them a token's numbers have the same bits alone, in any batch, in a
prompt of any chunks and on any number of threads, which ONNX Runtime's own (`MatMulNBits`, `GroupQueryAttention`)
do not give; and on x86 with AVX2 or AVX-512 VNNI they are faster (docs/performance.md, docs/adr/0008, 0016). The
library is C because nothing else reaches a processor's integer instructions; `build.py` compiles it when LLMOS is
installed. It has kernels for AVX-512 VNNI, for AVX2 and for any processor, which give the same bits, the last ones
slowly; for tests and for doubt the environment variable `LLMOS_KERNELS` names one: `vnni`, `avx2` or `portable`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from shared.errors import InvalidInput

DOMAIN = "llmos"
VERSION = 1
LIBRARY = Path(__file__).parent / "liboperators.so"


class _Options(Protocol):
    def register_custom_ops_library(self, path: str) -> None: ...


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class _Session(Protocol):
    def get_inputs(self) -> Sequence[_Named]: ...


def register(options: _Options) -> None:
    """Let a session with these options (`onnxruntime.SessionOptions`) load graphs that have the operators.

    Raises:
        InvalidInput: The library was not built.
    """
    if not LIBRARY.is_file():
        raise InvalidInput(
            f"{LIBRARY} is missing: build it with `python -m operators.build`, or install LLMOS again",
            param="operators",
        )
    options.register_custom_ops_library(str(LIBRARY))


def takes_slots(session: _Session) -> bool:
    """Whether a graph (`onnxruntime.InferenceSession`) asks for the slot of each row, the input `slots`."""
    return any(given.name == "slots" for given in session.get_inputs())
