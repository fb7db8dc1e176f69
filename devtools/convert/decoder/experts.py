"""A mixture of experts: each token goes through the gated MLPs that a router chooses for it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from devtools.convert.decoder.architecture import Activation, Architecture
from devtools.convert.decoder.block_linear import GATES
from devtools.convert.graph.block_matrix import Bytes
from devtools.convert.graph.matrices import Matrix, Quantised, join
from devtools.convert.graph.nodes import GraphNodes
from devtools.convert.source import WeightSource
from operators import DOMAIN
from shared.errors import UnsupportedFormat

ROUTED = ".experts"
"""How the name of a layer's chosen experts ends: int64 [B, S, used]."""
_FLOAT_COLUMNS = 8
"""Matrices of floats have a multiple of so many columns."""


class ExpertMixtures:
    """Adds mixtures of experts to `nodes`, with the matrices of `source`."""

    def __init__(self, arch: Architecture, nodes: GraphNodes, source: WeightSource) -> None:
        self._arch = arch
        self._nodes = nodes
        self._source = source

    def apply(self, x: str, layer: int) -> str:
        """The mixture of `layer` on `x [B, S, H]`: the name of an output [B, S, H]."""
        experts, name = self._arch.experts, f"blk.{layer}"
        assert experts is not None
        endings = [f".{number}" for number in range(experts.count)]
        normalise = int(experts.normalised)
        mixed = self._mixture(x, name, name, ("", *endings), used=experts.used, scoring=0, normalise=normalise)
        if not experts.shared_size:
            return mixed
        # One expert that all tokens have, weighted by the sigmoid of its score.
        of_all = self._mixture(x, name, f"{name}.shared", ("_shexp", "_shexp"), used=1, scoring=1, normalise=0)
        return self._nodes.add("Add", [mixed, of_all], f"{name}.mixed")

    def _mixture(self, x: str, name: str, results: str, endings: Sequence[str], **routing: int) -> str:
        """`endings`: of the names of the router and of all experts' matrices; `results`: how outputs' names begin."""
        router, *of_experts = endings
        router = f"{name}.ffn_gate_inp{router}"
        values = self._source.dequantise(router)
        _check_columns(router, values.shape[1])
        chosen, weights = f"{results}{ROUTED}", f"{results}.expert_weights"
        self._nodes.add(
            "RouteExperts", [x, self._nodes.weight(f"{router}.weight", values)], chosen, more_outputs=(weights,),
            domain=DOMAIN, K=values.shape[1], experts=len(of_experts), **routing,
        )  # fmt: skip
        gate_up, down = (
            [[f"{name}.ffn_{part}{ending}" for part in parts] for ending in of_experts]
            for parts in (("gate", "up"), ("down",))
        )
        wide = self._multiply([x, chosen], gate_up, f"{results}.gate_up")
        return self._multiply([wide, chosen], down, f"{results}.down", weights=weights, gate=self._arch.activation)

    def _multiply(
        self, inputs: list[str], names: Sequence[Sequence[str]], output: str, *, weights: str = "",
        gate: Activation | None = None,
    ) -> str:  # fmt: skip
        """The product with the matrices `names` of each expert, joined where their forms allow it."""
        joined = join([self._source.matrix(name) for name in names[0]])
        parts, start = [], 0
        for number, (count, first) in enumerate(joined):
            part = output if len(joined) == 1 else f"{output}.{number}"
            attributes: dict[str, Any] = _attributes(names[0][start], first)
            stored = f"{part}.blocks"
            here = [expert[start : start + count] for expert in names]
            self._nodes.weight_in_pieces(stored, len(names) * _stored_bytes(first), self._pieces(here, attributes))
            self._nodes.add(
                "MatMulExperts", [*inputs, stored, *([weights] if weights else [])], part, domain=DOMAIN,
                gate=GATES[gate], experts=len(names), **attributes,
            )  # fmt: skip
            parts.append(part)
            start += count
        return parts[0] if len(parts) == 1 else self._nodes.add("Concat", parts, output, axis=-1)

    def _pieces(self, names: Sequence[Sequence[str]], attributes: Mapping[str, int]) -> Iterator[Bytes]:
        """The matrices of all experts as the operator reads them, one after the other."""
        for expert in names:
            joined = join([self._source.matrix(name) for name in expert])
            if len(joined) > 1 or _attributes(expert[0], joined[0][1]) != attributes:
                raise UnsupportedFormat(
                    f"{expert[0]!r} is stored in another form than {names[0][0]!r}: the experts of a layer must have"
                    " one type",
                    param="source",
                )
            matrix = joined[0][1]
            if isinstance(matrix, Quantised):
                yield from matrix.packed()
            else:
                yield np.ascontiguousarray(matrix).view(np.uint8)


def _attributes(name: str, matrix: Matrix) -> dict[str, Any]:
    """Of the node that multiplies by such a matrix: N, K and its form."""
    if isinstance(matrix, Quantised):
        return matrix.attributes
    _check_columns(name, matrix.shape[1])
    return {"N": matrix.shape[0], "K": matrix.shape[1], "ggml_type": 0}


def _stored_bytes(matrix: Matrix) -> int:
    return matrix.packed_bytes if isinstance(matrix, Quantised) else matrix.nbytes


def _check_columns(name: str, columns: int) -> None:
    if columns % _FLOAT_COLUMNS:
        raise UnsupportedFormat(
            f"the tensor {name + '.weight'!r} has {columns} columns of floats; a multiple of {_FLOAT_COLUMNS} is"
            " supported",
            param="source",
        )
