"""What training an adapter takes of a node. Pure; an upper estimate from the shape of the decoder."""

from shared.contracts.manifest import DecoderSpec
from shared.contracts.resources import Resources

_RUNTIME = 1 << 30
"""Bytes of the process with PyTorch before a model is loaded."""
_FLOAT = 4
_STEP_TOKENS = 1024
"""Tokens that a step has in memory at once: the recipe's `compute.micro_tokens`."""
_WIDTH = 40
"""Numbers per token, layer and hidden unit that are kept for the way back."""
_MLP = 4
"""Hidden units of an MLP, as a multiple of the model's: the widest common shape."""


def training_resources(decoder: DecoderSpec) -> Resources:
    """The grant of a job; its threads are those that no replica reserved."""
    attention = decoder.hidden_size * decoder.head_dim * (2 * decoder.heads + 2 * decoder.kv_heads)
    layer = attention + 3 * _MLP * decoder.hidden_size**2
    weights = decoder.layers * layer + 2 * decoder.vocab_size * decoder.hidden_size
    step = _STEP_TOKENS * (decoder.layers * _WIDTH * decoder.hidden_size + _MLP * decoder.vocab_size)
    return Resources(memory=_RUNTIME + _FLOAT * (weights + step), threads=0)
