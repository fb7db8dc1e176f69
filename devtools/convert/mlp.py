"""The gated feed-forward block: `down(activation(gate(x)) * up(x))`."""

from devtools.convert.architecture import Activation
from devtools.convert.linear import Linear
from devtools.convert.nodes import MICROSOFT, GraphNodes


def add_mlp(nodes: GraphNodes, linear: Linear, x: str, name: str, activation: Activation) -> str:
    """The block of layer `name` on `x [B, S, H]`: `{name}.down [B, S, H]`."""
    gate_up = linear.apply(x, [f"{name}.ffn_gate", f"{name}.ffn_up"], f"{name}.gate_up")
    gate, up = f"{name}.gate", f"{name}.up"
    nodes.add("Split", [gate_up], gate, more_outputs=(up,), axis=-1, num_outputs=2)
    if activation is Activation.SILU:
        active = nodes.add("QuickGelu", [gate], f"{name}.silu", domain=MICROSOFT, alpha=1.0)
    else:
        active = nodes.add("FastGelu", [gate], f"{name}.gelu", domain=MICROSOFT)
    gated = nodes.add("Mul", [active, up], f"{name}.gated")
    return linear.apply(gated, [f"{name}.ffn_down"], f"{name}.down")
