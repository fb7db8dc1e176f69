"""Linear layers with a matrix of floats or of codes, and with or without an adapter."""

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812  # its name everywhere
from torch import Tensor, nn

from devtools.convert.source import WeightSource
from devtools.train.model.codes import Codes, DequantisedProduct, Halves, stored_matrix


class Adapter(Protocol):
    """What changes the product of a layer (`lora`)."""

    def __call__(self, x: Tensor, product: Tensor, layer: "Linear") -> Tensor:
        """The changed product [..., N]."""
        ...


class Linear(nn.Module):
    """`x W^T + b`. Also a table of rows: an embedding whose matrix makes the logits, too.

    Args:
        weight: float32 [N, K], which may be trained, or a frozen matrix of codes.
        bias: float32 [N].
    """

    def __init__(self, weight: Tensor | Codes | Halves, bias: Tensor | None = None) -> None:
        super().__init__()
        self.codes = None if isinstance(weight, Tensor) else weight
        self.weight = nn.Parameter(weight) if isinstance(weight, Tensor) else None
        self.bias = None if bias is None else nn.Parameter(bias)
        self.adapter: nn.Module | None = None
        self.shape = tuple(weight.shape)

    @classmethod
    def load(cls, source: WeightSource, name: str, *, keep_codes: bool) -> "Linear":
        """The layer `name` of `source`; with `keep_codes` its matrix stays as it is stored."""
        bias = f"{name}.bias"
        added = torch.from_numpy(source.vector(bias).copy()) if source.has(bias) else None
        stored = stored_matrix(source, name) if keep_codes else None
        return cls(torch.from_numpy(source.dequantise(name).copy()) if stored is None else stored, added)

    def floats(self) -> Tensor:
        """W as float32 [N, K]."""
        if self.codes is not None:
            return self.codes.floats()
        assert self.weight is not None
        return self.weight

    def rows(self, ids: Tensor) -> Tensor:
        """The rows `ids [...]` of W: [..., K]."""
        if self.codes is not None:
            return self.codes.floats(ids.flatten()).view(*ids.shape, -1)
        assert self.weight is not None
        return F.embedding(ids, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`x [..., K]` to [..., N]."""
        if self.codes is not None:
            product = DequantisedProduct.apply(x, self.codes)
        else:
            assert self.weight is not None
            product = F.linear(x, self.weight)
        if self.adapter is not None:
            product = self.adapter(x, product, self)
        return product if self.bias is None else product + self.bias
