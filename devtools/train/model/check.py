"""The decoder against the numpy reference, before anything is trained."""

import numpy as np
import torch

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.source import WeightSource
from devtools.convert.verify.reference import Reference
from devtools.train.model.decoder import Decoder
from shared.errors import Internal

TOKENS = 32
TOLERANCE = 1e-4
"""The largest difference of a logit, as a share of the largest logit."""


def check_decoder(decoder: Decoder, arch: Architecture, source: WeightSource, *, first: int | None = None) -> float:
    """The largest difference between the logits of `decoder` and of the reference, as a share of the largest logit.

    Args:
        decoder: Without an adapter, in float32.
        arch: What it was made of.
        source: Its weights.
        first: The token that begins each text, if the model has one.

    Raises:
        Internal: it is above `TOLERANCE`: the model that would be trained is not the one that is served.
    """
    ids = np.random.default_rng(0).integers(0, arch.vocab_size, min(TOKENS, arch.context_length))
    if first is not None:
        ids[0] = first
    expected = Reference(arch, source).logits(ids.tolist())
    training = decoder.training
    decoder.eval()
    with torch.no_grad():
        logits = decoder(torch.from_numpy(ids)[None])[0].numpy()
    decoder.train(training)
    error = float(np.abs(logits - expected).max() / np.abs(expected).max())
    if not error <= TOLERANCE:
        raise Internal(
            f"the decoder that is to be trained does not compute what the weights say (error {error:.2g} of the"
            f" largest logit, at most {TOLERANCE:g} is allowed); nothing was trained; please report this model"
        )
    return error
