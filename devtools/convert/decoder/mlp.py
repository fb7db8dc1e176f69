"""The gated feed-forward block: `down(activation(gate(x)) * up(x))`."""

from devtools.convert.decoder.architecture import Activation
from devtools.convert.decoder.linear import Linear


def add_mlp(linear: Linear, x: str, name: str, activation: Activation) -> str:
    """The block of layer `name` on `x [B, S, H]`: `{name}.down [B, S, H]`."""
    gate_up = linear.apply(x, [f"{name}.ffn_gate", f"{name}.ffn_up"], f"{name}.gate_up")
    return linear.apply_gated(gate_up, activation, f"{name}.ffn_down", f"{name}.down")
