"""Multiplications in whole numbers (`ChannelMatrix`) as nodes."""

from devtools.convert.block_matrix import Floats
from devtools.convert.channel_matrix import FINE_STEPS, STEPS, ChannelMatrix
from devtools.convert.nodes import MICROSOFT, GraphNodes

_MIDDLE = "int8.middle"
"""The zero point of uint8 activations: 128."""
_STEP, _FINE_STEP, _FINE_PART, _LAST_AXIS = "int8.step", "int8.fine_step", "int8.fine_part", "int8.last_axis"


class ChannelLinear:
    """Adds products with `ChannelMatrix` to `nodes`.

    ONNX Runtime has no operator that quantises by rows, so four nodes do: each row over its largest value, rounded
    around 128, is multiplied exactly, and the largest value multiplies the row of the product. What `fine` inputs
    lose by rounding goes through the same product, as further rows.
    """

    def __init__(self, nodes: GraphNodes) -> None:
        self._nodes = nodes
        self._rows: dict[str, tuple[str, str]] = {}

    def multiply(self, x: str, matrix: ChannelMatrix, output: str, *, bias: Floats | None = None) -> str:
        """`x [..., K]` times the matrix [N, K], plus `bias` [N]: `output [..., N]`."""
        nodes = self._nodes
        codes, largest = self._fine(x) if matrix.fine else self._coarse(x)
        weights = nodes.packed(f"{output}.codes", matrix.codes.T)
        scales = nodes.packed(f"{output}.scales", matrix.scales)
        product = nodes.add(
            "MatMulIntegerToFloat", [codes, weights, _STEP, scales, _MIDDLE], f"{output}.product", domain=MICROSOFT
        )
        if matrix.fine:
            product = self._added(product)
        if bias is None:
            return nodes.add("Mul", [product, largest], output)
        scaled = nodes.add("Mul", [product, largest], f"{output}.scaled")
        return nodes.add("Add", [scaled, nodes.weight(f"{output}.bias", bias)], output)

    def _coarse(self, x: str) -> tuple[str, str]:
        """`x [B, ...]` as uint8, and the largest absolute value of each row [..., 1]; made once per input.

        A row of zeros gives 0/0, which becomes some code, times a largest value of zero.
        """
        self._add_constants()
        if x not in self._rows:
            add = self._nodes.add
            size = add("Abs", [x], f"{x}.size")
            largest = add("ReduceMax", [size, _LAST_AXIS], f"{x}.largest", keepdims=1)
            relative = add("Div", [x, largest], f"{x}.relative")
            self._rows[x] = add("QuantizeLinear", [relative, _STEP, _MIDDLE], f"{x}.int8"), largest
        return self._rows[x]

    def _fine(self, x: str) -> tuple[str, str]:
        """`_coarse`, and below it [2 * B, ...] what it lost, in parts of a step."""
        add = self._nodes.add
        coarse, largest = self._coarse(x)
        known = add("DequantizeLinear", [coarse, _STEP, _MIDDLE], f"{x}.known")
        lost = add("Sub", [f"{x}.relative", known], f"{x}.lost")
        fine = add("QuantizeLinear", [lost, _FINE_STEP, _MIDDLE], f"{x}.lost_int8")
        return add("Concat", [coarse, fine], f"{x}.int8_twice", axis=0), largest

    def _added(self, product: str) -> str:
        add = self._nodes.add
        coarse, fine = f"{product}.coarse", f"{product}.fine"
        add("Split", [product], coarse, more_outputs=(fine,), axis=0, num_outputs=2)
        return add("Add", [coarse, add("Mul", [fine, _FINE_PART], f"{fine}.scaled")], f"{product}.whole")

    def _add_constants(self) -> None:
        if not self._rows:
            self._nodes.scalar(_STEP, 1 / STEPS)
            self._nodes.scalar(_FINE_STEP, 1 / (STEPS * FINE_STEPS))
            self._nodes.scalar(_FINE_PART, 1 / FINE_STEPS)
            self._nodes.scalar_uint8(_MIDDLE, 128)
            self._nodes.constant(_LAST_AXIS, [-1])
