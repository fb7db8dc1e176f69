"""The quantization schemes of the converter. They are in a module of their own, which loads no converter."""

from typing import Literal

Scheme = Literal["int4", "int8"]
Quantize = Literal["auto", "none", Scheme]
"""auto: int4 if the perplexity stays close enough to the original's, else int8."""
