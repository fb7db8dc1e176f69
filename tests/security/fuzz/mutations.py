"""Damaged forms of a file or message: bytes flipped, cut, repeated, moved, and lengths that lie."""

import os
import struct
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Change:
    """One change of some bytes."""

    kind: str
    place: int
    """Where, in thousandths of a thousandth of the length."""
    length: int
    value: bytes


changes = st.lists(
    st.builds(
        Change,
        st.sampled_from(["flip", "write", "insert", "cut", "repeat", "drop"]),
        st.integers(0, 999_999),
        st.integers(1, 64),
        st.one_of(st.sampled_from(_WORDS), st.sampled_from(_TEXTS), st.binary(min_size=1, max_size=16)),
    ),
    min_size=1,
    max_size=4,
)
"""What is done to a whole file or message."""


def damaged(whole: bytes, done: list[Change], *, head: int | None = None) -> bytes:
    """`whole` after these changes; only in its first `head` bytes, if given."""
    data = bytearray(whole)
    for change in done:
        at = min(len(data), head or len(data)) * change.place // 1_000_000
        if change.kind == "flip":
            data[at : at + 1] = change.value[:1]
        elif change.kind == "write":
            data[at : at + len(change.value)] = change.value
        elif change.kind == "insert":
            data[at:at] = change.value
        elif change.kind == "cut":
            del data[at:]
        elif change.kind == "repeat":
            data[at:at] = data[at : at + change.length] * 16
        else:
            del data[at : at + change.length]
    return bytes(data)
