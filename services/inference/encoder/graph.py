"""The interface of a model to the runner."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.inference.encoder.request import TokenRow


class EncoderGraph(Protocol):
    """An encoder. All methods are called from one thread."""

    def run(self, rows: Sequence[TokenRow]) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        """One pooled (and, if the manifest says so, normalised) vector per row: float32 `[rows, output_size]`.

        Of a classifier of tokens float32 `[tokens, output_size]` per row.
        """
        ...

    def close(self) -> None:
        """Free the memory."""
        ...
