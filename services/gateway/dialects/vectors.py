"""Vectors, which cross the bus as base64 of little-endian float32."""

import base64
import sys
from array import array


def floats(vector: str) -> list[float]:
    """The numbers of a vector in base64."""
    numbers = array("f", base64.b64decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
