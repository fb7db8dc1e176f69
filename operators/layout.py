"""The forms in which `MatMulBlocks` and `GatherBlocks` read a matrix; `blocks.h` describes them.

`pack` writes LLMOS's own form, `interleave` that of a GGUF's types, whose bytes it only puts in another order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUP = 16
"""Rows (output features) of a group."""
_LANE = 4

Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FileType:
    """A type of GGUF that the operators read as it is in the file.

    columns: Of a block of the file
    size: Bytes of such a block
    halves: Where in it float16 numbers (or other 16 bits) lie; all else is words of four bytes
    fifth_bits: Whether its first word has a bit for each of 32 columns
    """

    columns: int
    size: int
    halves: tuple[int, ...]
    fifth_bits: bool = False


FILE_TYPES = {
    "Q4_0": FileType(32, 18, (0,)),
    "Q4_1": FileType(32, 20, (0, 2)),
    "Q5_0": FileType(32, 22, (0,), fifth_bits=True),
    "Q5_1": FileType(32, 24, (0, 2), fifth_bits=True),
    "Q8_0": FileType(32, 34, (0,)),
    "Q4_K": FileType(256, 144, (0, 2)),
    "Q5_K": FileType(256, 176, (0, 2)),
    "Q6_K": FileType(256, 210, (208,)),
    "IQ4_NL": FileType(32, 18, (0,)),
    "IQ4_XS": FileType(256, 136, (0, 2)),
}
"""By the names of `ggml_type`."""


def interleave(rows: Codes, kind: FileType) -> Codes:
    """Rows as a file has them, uint8 [N, bytes of a row], as the operators read them: uint8, all bytes of all groups.

    Rows that fill the last group are zero.
    """
    blocks = np.pad(rows, ((0, -len(rows) % GROUP), (0, 0))) if len(rows) % GROUP else rows
    blocks = blocks.reshape(-1, GROUP, rows.shape[1] // kind.size, kind.size)
    packed = np.empty((len(blocks), blocks.shape[2], GROUP * kind.size), np.uint8)
    start = 0
    for at in kind.halves:
        packed[..., start : start + 2 * GROUP].view("<u2")[...] = (
            np.ascontiguousarray(blocks[..., at : at + 2]).view("<u2")[..., 0].swapaxes(1, 2)
        )
        start += 2 * GROUP
    words = np.ascontiguousarray(blocks[..., _words(kind)]).view("<u4")
    if kind.fifth_bits:
        words[..., 0] = _by_byte(words[..., 0])
    packed[..., start:].view("<u4").reshape(*packed.shape[:2], -1, GROUP)[...] = words.transpose(0, 2, 3, 1)
    return packed


def file_rows(packed: Codes, rows: int, kind: FileType) -> Codes:
    """The rows of which `interleave` made `packed`, uint8 [rows, bytes of a row]."""
    groups = -(-rows // GROUP)
    packed = packed.reshape(groups, -1, GROUP * kind.size)
    blocks = np.empty((groups, GROUP, packed.shape[1], kind.size), np.uint8)
    start = 0
    for at in kind.halves:
        halves = np.ascontiguousarray(packed[..., start : start + 2 * GROUP]).view("<u2")
        blocks[..., at : at + 2] = np.ascontiguousarray(halves.swapaxes(1, 2))[..., None].view(np.uint8)
        start += 2 * GROUP
    words = np.ascontiguousarray(packed[..., start:]).view("<u4").reshape(*packed.shape[:2], -1, GROUP)
    words = np.ascontiguousarray(words.transpose(0, 3, 1, 2))
    if kind.fifth_bits:
        words[..., 0] = _by_column(words[..., 0])
    blocks[..., _words(kind)] = words.view(np.uint8)
    return blocks.reshape(groups * GROUP, -1)[:rows]


def _words(kind: FileType) -> slice:
    """The bytes of a block that are no halves: those lie at one end."""
    return slice(0, kind.halves[0]) if kind.halves[0] else slice(2 * len(kind.halves), kind.size)


def _by_byte(columns: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Words with bit i for column i, as words with bit s of byte k for column 4s + k."""
    return _swapped(columns, 8, 4)


def _by_column(by_byte: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return _swapped(by_byte, 4, 8)


def _swapped(words: NDArray[np.uint32], rows: int, columns: int) -> NDArray[np.uint32]:
    bits = np.unpackbits(np.ascontiguousarray(words)[..., None].view(np.uint8), axis=-1, bitorder="little")
    swapped = bits.reshape(*words.shape, rows, columns).swapaxes(-1, -2)
    return np.packbits(swapped.reshape(*words.shape, 32), axis=-1, bitorder="little").view("<u4")[..., 0]


def block_bytes(bits: int, block: int, *, offsets: bool) -> int:
    """Bytes of a group's block: a scale and perhaps an offset for each row, and the codes."""
    return GROUP * (4 * (2 if offsets else 1) + block * bits // 8)


def pack(codes: Codes, scales: Floats, offsets: Floats | None, *, bits: int) -> Codes:
    """A matrix `scale * (code - 2**(bits - 1))`, or with offsets `scale * code + offset`, as the operators read it.

    Args:
        codes: uint8 [N, K], below 2**bits.
        scales: float32 [N, K / block]; a block has 16 or 32 columns.
        offsets: float32 [N, K / block], or None.
        bits: 4 or 8.

    Returns:
        uint8 [groups, K / block, bytes of a block]; rows that fill the last group are zero.
    """
    rows, columns = codes.shape
    blocks = scales.shape[1]
    padding = -rows % GROUP
    zero = np.uint8(0 if offsets is not None else 1 << (bits - 1))
    padded = np.pad(codes, ((0, padding), (0, 0)), constant_values=zero)
    groups, steps = len(padded) // GROUP, columns // blocks // (2 * _LANE)
    parts = [_by_block(values, padding) for values in (scales, offsets) if values is not None]
    for plane in [padded] if bits == 4 else [padded >> 4, padded & 0xF]:
        # [group, row, block, j, low or high, k] -> [group, block, j, row, k]
        split = plane.reshape(groups, GROUP, blocks, steps, 2, _LANE).transpose(4, 0, 2, 3, 1, 5)
        parts.append((split[0] | (split[1] << 4)).reshape(groups, blocks, -1))
    return np.concatenate(parts, axis=-1)


def unpack(packed: Codes, rows: int, *, bits: int, block: int, offsets: bool) -> tuple[Codes, Floats, Floats | None]:
    """The codes, scales and offsets of which `pack` made the matrix `packed`, which has `rows` rows."""
    groups, count, planes = -(-rows // GROUP), (2 if offsets else 1), bits // 4
    packed = packed.reshape(groups, -1, block_bytes(bits, block, offsets=offsets))
    blocks = packed.shape[1]
    head = 4 * GROUP * count
    floats = np.ascontiguousarray(packed[..., :head]).view(np.float32).reshape(groups, blocks, count, GROUP)
    by_row = floats.transpose(2, 0, 3, 1).reshape(count, groups * GROUP, blocks)[:, :rows]
    pairs = packed[..., head:].reshape(groups, blocks, planes, block // (2 * _LANE), GROUP, _LANE)
    nibbles = np.stack([pairs & 0xF, pairs >> 4], axis=-2)  # [group, block, plane, j, row, low or high, k]
    codes = nibbles.transpose(2, 0, 4, 1, 3, 5, 6).reshape(planes, groups * GROUP, -1)[:, :rows]
    joined = codes[0] if planes == 1 else (codes[0] << 4) | codes[1]
    return joined, by_row[0], by_row[1] if offsets else None


def _by_block(values: Floats, padding: int) -> Codes:
    """[N, blocks] -> the bytes of [groups, blocks, GROUP]."""
    padded = np.pad(values.astype(np.float32), ((0, padding), (0, 0)))
    by_group = np.ascontiguousarray(padded.reshape(-1, GROUP, values.shape[1]).transpose(0, 2, 1))
    return by_group.view(np.uint8)
