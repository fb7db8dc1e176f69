"""How much memory a training takes, as an estimate before it runs. Needs no PyTorch.

    base          what Python and PyTorch take
    weights       floats: 4 bytes a parameter; trained: 16 (weight, gradient, two moments of AdamW)
    activations   of the tokens that are in memory at once, kept for the way back
    logits        of the answer tokens among them, with their gradient

The factors fit what was measured with SmolLM2-135M in float32: 3.9 GB for LoRA on 1,024 tokens at once.
"""

from dataclasses import dataclass

from devtools.train.model.gpt import SIZES
from devtools.train.recipe import Recipe
from shared.contracts.manifest import Manifest

_BASE = 700 << 20
_ACTIVATIONS = 32
"""Floats of the hidden size that a layer holds for each token."""
_LOGITS = 3
"""Rows of logits that a token has in memory."""
_ADAPTER = 20
"""Parameters of an adapter on all matrices, for each layer, each hidden unit and each rank."""
_BITS = {"F32": 35.0, "F16": 35.0, "BF16": 35.0, "int8": 9.5, "Q8_0": 9.5}
"""Of a parameter in a version's files, the embedding included."""
_OTHER_BITS = 6.5
_TRAINED = 16
_MARGIN = 1.1


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Of a decoder."""

    parameters: int
    layers: int
    hidden: int
    vocab: int


def size_of(manifest: Manifest) -> ModelSize:
    """The size of a version; its parameters follow from the bytes of its weights."""
    spec = manifest.the_decoder
    weights = sum(file.size for file in manifest.files if file.path == "model.onnx.data")
    bits = _BITS.get(manifest.lineage.quantization, _OTHER_BITS)
    return ModelSize(int(weights * 8 / bits), spec.layers, spec.hidden_size, spec.vocab_size)


def size_from_scratch(recipe: Recipe) -> ModelSize:
    """The size of the new model of a recipe with weights = 'scratch'."""
    layers, hidden, _, feed_forward = SIZES[recipe.scratch.size]
    vocab = recipe.scratch.vocab
    matrices = layers * hidden * (4 * hidden + 3 * feed_forward)
    return ModelSize(matrices + vocab * hidden, layers, hidden, vocab)


def estimate_memory(recipe: Recipe, model: ModelSize, *, teacher: ModelSize | None = None, processes: int = 1) -> int:
    """Bytes that a training takes on its node.

    Args:
        recipe: What it does.
        model: That is trained.
        teacher: With method distil.
        processes: That train together, each with weights and activations of its own.
    """
    tokens = max(recipe.compute.micro_tokens, recipe.max_len)
    passes = 2 if recipe.robust.rdrop or recipe.method == "distil" else 1
    activations = 4 * tokens * model.layers * model.hidden * _ACTIVATIONS
    logits = 4 * tokens * model.vocab * _LOGITS * passes
    if recipe.weights == "adapter":
        trained = _TRAINED * _ADAPTER * model.layers * model.hidden * recipe.adapter.rank
        weights = 4 * model.parameters + trained
    else:
        weights = _TRAINED * model.parameters
    of_teacher = 4 * teacher.parameters if teacher is not None else 0
    each = _BASE + weights + activations + logits + of_teacher
    return int(processes * each * _MARGIN)
