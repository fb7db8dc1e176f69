"""How each quantised GGUF type lays out its blocks, decoded into the codes, scales and offsets of a `BlockMatrix`.

With `d`, `m` the block's float16 scale and minimum, `s`, `t` the small integer ones of a part of a super-block, and
`q` the stored integer, the types say (ggml-common.h, ggml-quants.c):

    Q4_0    d * (q - 8)                  4 bits in blocks of 32
    Q4_1    d * q + m                    4 bits in blocks of 32, with offset
    Q5_0    d * (q - 16)                 5 bits, kept in 8
    Q5_1    d * q + m                    5 bits, kept in 8, with offset
    Q8_0    d * q                        8 bits
    Q2_K    d * s * q - m * t            2 bits, kept in 4, in blocks of 16, with offset
    Q3_K    d * s * (q - 4)              3 bits, kept in 4, in blocks of 16
    Q4_K    d * s * q - m * t            4 bits in blocks of 32, with offset
    Q5_K    d * s * q - m * t            5 bits, kept in 8, with offset
    Q6_K    d * s * (q - 32)             6 bits, kept in 8, in blocks of 16
    IQ4_NL  d * table[q]                 whole numbers from a table, kept in 8
    IQ4_XS  d * s * table[q]             whole numbers from a table, kept in 8

Without a minimum, the stored number that means zero becomes the middle of the codes: 8 of 4 bits, 128 of 8.
"""

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

from devtools.convert.graph.block_matrix import BlockForm, BlockMatrix, Bytes, Floats

_IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""`kvalues_iq4nl` of ggml-common.h."""
_IQ4_CODES: Bytes = (np.array(_IQ4_VALUES) + 128).astype(np.uint8)


def decode(kind: Type, raw: Bytes) -> BlockMatrix:
    """The matrix of `raw` uint8 [N, bytes of a row of `kind`]; the parts of super-blocks are its blocks."""
    rows = len(raw)
    found = _DECODERS[kind](raw.reshape(-1, GGML_QUANT_SIZES[kind][1]))  # with a row for each of the file's blocks
    offset = None if found.offset is None else found.offset.reshape(rows, -1)
    return BlockMatrix(found.bits, found.codes.reshape(rows, -1), found.scales.reshape(rows, -1), offset)


def _q4_0(blocks: Bytes) -> BlockMatrix:
    return BlockMatrix(4, _nibbles(blocks[:, 2:], 16), _half(blocks, 0), None)


def _q4_1(blocks: Bytes) -> BlockMatrix:
    return BlockMatrix(4, _nibbles(blocks[:, 4:], 16), _half(blocks, 0), _half(blocks, 2))


def _q5_0(blocks: Bytes) -> BlockMatrix:
    return BlockMatrix(8, _five_bits(blocks[:, 2:6], blocks[:, 6:]) + np.uint8(128 - 16), _half(blocks, 0), None)


def _q5_1(blocks: Bytes) -> BlockMatrix:
    return BlockMatrix(8, _five_bits(blocks[:, 4:8], blocks[:, 8:]), _half(blocks, 0), _half(blocks, 2))


def _q8_0(blocks: Bytes) -> BlockMatrix:
    return BlockMatrix(8, blocks[:, 2:] + np.uint8(128), _half(blocks, 0), None)


def _q2_k(blocks: Bytes) -> BlockMatrix:
    small = blocks[:, :16]
    codes = _bit_planes(blocks[:, 16:80], 32, 2)
    return BlockMatrix(4, codes, _half(blocks, 80) * (small & 0xF), -_half(blocks, 82) * (small >> 4))


def _q3_k(blocks: Bytes) -> BlockMatrix:
    low, high = blocks[:, 96:104], blocks[:, 104:108]
    small = np.concatenate([low & 0xF, low >> 4], axis=1)
    small |= np.concatenate([(high >> shift & 3) << np.uint8(4) for shift in (0, 2, 4, 6)], axis=1)
    codes = _bit_planes(blocks[:, 32:96], 32, 2) | _bit_planes(blocks[:, :32], 32, 1) << np.uint8(2)
    scales = _half(blocks, 108) * (small.astype(np.float32) - 32)
    return BlockMatrix(4, codes + np.uint8(8 - 4), scales, None)


def _q4_k(blocks: Bytes) -> BlockMatrix:
    return BlockMatrix(4, _nibbles(blocks[:, 16:], 32), *_scales_and_offset(blocks))


def _q5_k(blocks: Bytes) -> BlockMatrix:
    codes = _nibbles(blocks[:, 48:], 32) | _bit_planes(blocks[:, 16:48], 32, 1) << np.uint8(4)
    return BlockMatrix(8, codes, *_scales_and_offset(blocks))


def _q6_k(blocks: Bytes) -> BlockMatrix:
    small = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    codes = _nibbles(blocks[:, :128], 64) | _bit_planes(blocks[:, 128:192], 32, 2) << np.uint8(4)
    return BlockMatrix(8, codes + np.uint8(128 - 32), _half(blocks, 208) * small, None)


def _iq4_nl(blocks: Bytes) -> BlockMatrix:
    return BlockMatrix(8, _IQ4_CODES[_nibbles(blocks[:, 2:], 16)], _half(blocks, 0), None)


def _iq4_xs(blocks: Bytes) -> BlockMatrix:
    low, high = blocks[:, 4:8], np.ascontiguousarray(blocks[:, 2:4]).view("<u2")
    small = np.stack([low & 0xF, low >> 4], axis=-1).reshape(-1, 8)
    small |= ((high >> np.arange(0, 16, 2, dtype=np.uint16) & 3) << 4).astype(np.uint8)
    scales = _half(blocks, 0) * (small.astype(np.float32) - 32)
    return BlockMatrix(8, _IQ4_CODES[_nibbles(blocks[:, 8:], 16)], scales, None)


_DECODERS = {
    Type.Q4_0: _q4_0,
    Type.Q4_1: _q4_1,
    Type.Q5_0: _q5_0,
    Type.Q5_1: _q5_1,
    Type.Q8_0: _q8_0,
    Type.Q2_K: _q2_k,
    Type.Q3_K: _q3_k,
    Type.Q4_K: _q4_k,
    Type.Q5_K: _q5_k,
    Type.Q6_K: _q6_k,
    Type.IQ4_NL: _iq4_nl,
    Type.IQ4_XS: _iq4_xs,
}
QUANTISED = tuple(_DECODERS)
"""The types that `decode` knows."""
FORMS = {
    Type.Q4_0: BlockForm(4, 32, offsets=False),
    Type.Q4_1: BlockForm(4, 32, offsets=True),
    Type.Q5_0: BlockForm(8, 32, offsets=False),
    Type.Q5_1: BlockForm(8, 32, offsets=True),
    Type.Q8_0: BlockForm(8, 32, offsets=False),
    Type.Q2_K: BlockForm(4, 16, offsets=True),
    Type.Q3_K: BlockForm(4, 16, offsets=False),
    Type.Q4_K: BlockForm(4, 32, offsets=True),
    Type.Q5_K: BlockForm(8, 32, offsets=True),
    Type.Q6_K: BlockForm(8, 16, offsets=False),
    Type.IQ4_NL: BlockForm(8, 32, offsets=False),
    Type.IQ4_XS: BlockForm(8, 32, offsets=False),
}
"""Of what `decode` makes of each."""
_HALVES = {
    Type.Q4_0: (0,),
    Type.Q4_1: (0, 2),
    Type.Q5_0: (0,),
    Type.Q5_1: (0, 2),
    Type.Q8_0: (0,),
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108,),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208,),
    Type.IQ4_NL: (0,),
    Type.IQ4_XS: (0,),
}
"""Where in a block its float16 numbers lie; all others are integers."""


def is_finite(kind: Type, raw: Bytes) -> bool:
    """Whether the weights of `raw` uint8 [..., bytes of a row of `kind`] are finite numbers."""
    blocks = raw.reshape(-1, GGML_QUANT_SIZES[kind][1])
    exponents = [blocks[:, at + 1] & 0x7C for at in _HALVES[kind]]
    return all(int(exponent.max(initial=0)) < 0x7C for exponent in exponents)


def _half(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte `at` of every block, as float32 [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes, run: int) -> Bytes:
    """4-bit numbers: of every `run` bytes first the low halves, then the high halves."""
    runs = packed.reshape(len(packed), -1, 1, run)
    return np.concatenate([runs & 0xF, runs >> 4], axis=2).reshape(len(packed), -1)


def _bit_planes(packed: Bytes, run: int, bits: int) -> Bytes:
    """`bits`-bit numbers: of every `run` bytes first the lowest `bits` bits, then the next, and so on."""
    runs = packed.reshape(len(packed), -1, 1, run)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    return (runs >> shifts & np.uint8((1 << bits) - 1)).reshape(len(packed), -1)


def _five_bits(high: Bytes, low: Bytes) -> Bytes:
    """The numbers of Q5_0 and Q5_1: the fifth bit of weight i is bit i of a little-endian 32-bit word."""
    return _nibbles(low, 16) | np.unpackbits(high, axis=1, bitorder="little") << np.uint8(4)


def _scales_and_offset(blocks: Bytes) -> tuple[Floats, Floats]:
    """`d * s` and `-m * t` of the eight parts of each Q4_K or Q5_K block, float32 [blocks, 8].

    The 6-bit numbers of parts 0 to 3 are the low bits of bytes 0-3 (s) and 4-7 (t); of parts 4 to 7, bytes 8-11
    hold the low four bits (s in the low half, t in the high) and the top two bits of bytes 0-3 and 4-7 the rest.
    """
    first, second, third = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    small = np.concatenate([first & 0x3F, third & 0xF | first >> 2 & 0x30], axis=1)
    least = np.concatenate([second & 0x3F, third >> 4 | second >> 2 & 0x30], axis=1)
    return _half(blocks, 0) * small, -_half(blocks, 2) * least
