"""The quantization schemes and the format of the converter, in a module of their own, which loads no converter."""

from typing import Literal

Scheme = Literal["int4", "int8"]
Quantize = Literal["auto", "none", Scheme]
"""auto: int4 if the perplexity stays close enough to the original's, else int8."""

FORMAT = 2
"""Of what the converter writes. It is raised whenever the same source would become another version than before."""

_FLOATS = ("F32", "F16", "BF16")


def scheme_after(quantization: str | None) -> Quantize:
    """The scheme for weights that were trained from those of a version with `quantization`; None: from none.

    Floats stay floats. Quantised weights get 8 bits however few they had: what a training changes is smaller than a
    step of 4 bits, which would undo it.
    """
    return "none" if quantization is None or quantization in _FLOATS else "int8"


def conversion(quantize: Quantize, *, cuda: bool) -> str:
    """`Lineage.conversion`: what decides, beside the source, which version an import makes."""
    return f"format {FORMAT}, quantize {quantize}{', cuda' if cuda else ''}"
