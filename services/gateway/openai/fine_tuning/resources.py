"""What training an adapter takes of a node: the estimate of `devtools.train.memory`, which a test compares. Pure.

Services do not import tools, so the formula stands here again, for the one recipe that this API makes.
"""

from shared.contracts.manifest import Manifest
from shared.contracts.resources import Resources

SHORTEST = 1024
"""Tokens that a step has in memory at least: the recipe's `compute.micro_tokens`."""
_BASE = 700 << 20
_FLOAT = 4
_ACTIVATIONS = 32
_LOGITS = 3
_TRAINED = 16
_ADAPTER = 20 * 8
"""Parameters of an adapter of rank 8, for each layer and each hidden unit."""
_BITS = {"F32": 35.0, "F16": 35.0, "BF16": 35.0, "int8": 9.5, "Q8_0": 9.5}
_OTHER_BITS = 6.5
_MARGIN = 1.1


def training_resources(base: Manifest, tokens: int) -> Resources:
    """The grant of a job; its threads are those that no replica reserved.

    Args:
        base: A decoder.
        tokens: Of the longest row, as far as known.
    """
    spec, bits = base.the_decoder, _BITS.get(base.lineage.quantization, _OTHER_BITS)
    files = sum(file.size for file in base.files if file.path == "model.onnx.data")
    width = spec.layers * spec.hidden_size
    numbers = int(files * 8 / bits) + max(tokens, SHORTEST) * (width * _ACTIVATIONS + spec.vocab_size * _LOGITS)
    return Resources(memory=int((_BASE + _FLOAT * numbers + _TRAINED * _ADAPTER * width) * _MARGIN), threads=0)
