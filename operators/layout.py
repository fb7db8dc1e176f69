"""The form in which `MatMulBlocks` and `GatherBlocks` read a matrix; `blocks.h` describes it."""

import numpy as np
from numpy.typing import NDArray

GROUP = 16
"""Rows (output features) of a group."""
_LANE = 4

Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]


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
    groups, blocks, _ = packed.shape
    count, planes = (2 if offsets else 1), bits // 4
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
