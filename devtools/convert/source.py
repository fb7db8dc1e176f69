"""Where a converter gets a model's weights from: the interface between file formats and graphs.

Names are GGUF's (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) without their ending `.weight`:
`token_embd`, `output_norm`, `output`, `rope_freqs`, `blk.3.attn_q`, `blk.3.attn_q_norm`, `blk.3.ffn_gate`, …; of
experts `blk.3.ffn_gate_inp` (the router), `blk.3.ffn_gate.17`, `blk.3.ffn_gate_shexp`, `blk.3.ffn_gate_inp_shexp`;
biases keep theirs: `blk.3.attn_q.bias`. Values are GGUF's too (a Gemma norm already has its one added), but for one
thing: the rows of query and key matrices lie in the order that the source has, and `Architecture.rotary_interleaved`
says which that is (a GGUF Llama pairs neighbouring dimensions, Hugging Face's files pair each with the one half a
head away).
"""

from typing import Any, Protocol

import numpy as np

from devtools.convert.graph.block_matrix import Floats
from devtools.convert.graph.matrices import Matrix

Rows = slice | np.ndarray[Any, Any]


class WeightSource(Protocol):
    """The tensors of one model. Methods raise CorruptFile for a name that it does not have."""

    def names(self) -> tuple[str, ...]:
        """Every tensor, by its canonical name."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is a tensor `name`."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Row-major: a matrix is [output features, input features]."""
        ...

    def type_name(self, name: str) -> str:
        """How the tensor is stored, for people: `Q4_1`, `BF16`, `int4`."""
        ...

    def matrix(self, name: str) -> Matrix:
        """The matrix in the form in which the graph multiplies by it; float32 [N, K] if that is not quantised."""
        ...

    def vector(self, name: str) -> Floats:
        """A norm's weight or a bias, float32."""
        ...

    def dequantise(self, name: str, rows: Rows = slice(None)) -> Floats:
        """`rows` of the tensor as float32: the values of `matrix(name)`, as plainly as they can be computed."""
        ...
