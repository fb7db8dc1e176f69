"""Damaged forms of a file or message: bytes flipped, cut, repeated, moved, and lengths that lie."""

import os
import struct

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("LLMOS_FUZZ_EXAMPLES", "100"))
"""Of each target: 100 take a minute in all, 6,000 an hour."""

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.large_base_example],
)

_NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, 1 << 62, (1 << 64) - 1]
_WORDS = [struct.pack("<Q", number) for number in _NUMBERS] + [struct.pack("<I", n & 0xFFFFFFFF) for n in _NUMBERS]
_TEXTS = [b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n\r\n", b"../", b"{{", b"%}", b'"', b"[" * 64, b"9" * 400]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, *, head: int | None = None) -> bytes:
    """`whole` after one to four changes, most of them in its first `head` bytes."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        end = min(len(data), head or len(data)) if draw(st.integers(0, 4)) else len(data)
        at = draw(st.integers(0, max(0, end - 1)))
        change = draw(st.sampled_from(["flip", "number", "text", "cut", "repeat", "drop", "insert"]))
        if change == "flip" and data:
            data[at] = draw(st.integers(0, 255))
        elif change == "number":
            word = draw(st.sampled_from(_WORDS))
            data[at : at + len(word)] = word
        elif change == "text":
            data[at:at] = draw(st.sampled_from(_TEXTS))
        elif change == "cut":
            del data[at:]
        elif change == "repeat":
            length = draw(st.integers(1, 64))
            data[at:at] = data[at : at + length] * draw(st.integers(1, 32))
        elif change == "drop":
            del data[at : at + draw(st.integers(1, 64))]
        else:
            data[at:at] = draw(st.binary(max_size=16))
    return bytes(data)
