// The forms of a matrix, and what each weight is: the definition that all kernels follow.
//
// Types of GGUF: ggml-common.h and ggml-quants.c of https://github.com/ggml-org/ggml. With `d`, `m` the float16 scale
// and minimum of a piece, `s`, `t` the small integers of its blocks, and `q` the code:
//
//     Q4_0, Q5_0, Q8_0  d * (q - 8), d * (q - 16), d * (q - 128)    pieces of one block of 32
//     Q4_1, Q5_1        d * q + m
//     Q4_K, Q5_K        d * s * q - m * t        pieces of 8 blocks of 32
//     Q6_K              d * s * (q - 32)         pieces of 16 blocks of 16
//     IQ4_NL, IQ4_XS    d * table[q], d * s * table[q]    as Q4_0; pieces of 8 blocks of 32
//
// Products of a float16 and an integer of at most 8 bits are exact in float32.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { GROUP = 16, MAX_BLOCK = 32, MAX_BLOCKS = 16 };  // rows of a group; columns of a block, blocks of a piece at most

#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef enum {  // the numbers of ggml_type
    OWN = 0,    // LLMOS's own
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ4_NL = 20,
    IQ4_XS = 23,
} Type;

typedef struct {
    Type type;
    int block;  // columns that share a scale: 16 or 32
    int count;  // blocks of a piece
    int bits;   // of a code: 4, 5, 6 or 8; 8 for the whole numbers of a table
    bool offsets;
    int halves;  // float16 numbers of a row of a piece, which lie before everything else
    int words;   // of four bytes
} Form;

// A form of LLMOS's own, of 4 or 8 bits.
ALWAYS_INLINE Form own_form(int bits, int block, bool offsets) {
    return (Form){OWN, block, 1, bits, offsets, 0, (offsets ? 2 : 1) + block * bits / 32};
}

// Blocks of the form are 0 for a type that has no kernels.
ALWAYS_INLINE Form form_of(Type type) {
    switch (type) {
    case Q4_0:
        return (Form){type, 32, 1, 4, false, 1, 4};
    case Q4_1:
        return (Form){type, 32, 1, 4, true, 2, 4};
    case Q5_0:
        return (Form){type, 32, 1, 5, false, 1, 5};
    case Q5_1:
        return (Form){type, 32, 1, 5, true, 2, 5};
    case Q8_0:
        return (Form){type, 32, 1, 8, false, 1, 8};
    case Q4_K:
        return (Form){type, 32, 8, 4, true, 2, 35};
    case Q5_K:
        return (Form){type, 32, 8, 5, true, 2, 43};
    case Q6_K:
        return (Form){type, 16, 16, 6, false, 1, 52};
    case IQ4_NL:
        return (Form){type, 32, 1, 8, false, 1, 4};
    case IQ4_XS:
        return (Form){type, 32, 8, 8, false, 2, 33};
    default:
        return (Form){0};
    }
}

// Neighbouring blocks of a piece of which each has its codes at other bits: loops over them are unrolled.
ALWAYS_INLINE int blocks_alike(Form form) {
    return form.type == Q5_K || form.type == Q6_K ? 8 : form.type == Q4_K ? 2 : 1;
}

ALWAYS_INLINE size_t piece_bytes(Form form) {
    return (size_t)GROUP * (2 * form.halves + 4 * form.words);
}

// The code that stands for 0 where there are no offsets.
ALWAYS_INLINE int zero_of(Form form) {
    return form.offsets ? 0 : 1 << (form.bits - 1);
}

// `kvalues_iq4nl` of ggml-common.h, plus 128.
#define IQ4_CODES 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241
static const uint8_t IQ4_TABLE[16] = {IQ4_CODES};

// Where the words of a piece begin.
ALWAYS_INLINE const uint8_t *words_of(Form form, const uint8_t *piece) {
    return piece + GROUP * 2 * form.halves;
}

// Four columns of all rows: where their codes lie.
typedef struct {
    int low;    // the word with the low four bits, or all eight
    int high;   // the word with the bits above; where there are none, -1
    int shift;  // of the low bits in their bytes: 0 or 4
    int bit;    // the first bit of those above in their bytes
} Place;

// Of columns 4 * step and the next three of a block of a piece.
ALWAYS_INLINE Place place_of(Form form, unsigned block, int step) {
    const int half = step / 4, in_half = step % 4;  // of a block of 32
    switch (form.type) {
    case Q4_0:
    case Q4_1:
    case IQ4_NL:
        return (Place){in_half, -1, 4 * half, 0};
    case Q5_0:
    case Q5_1:
        return (Place){1 + in_half, 0, 4 * half, step};
    case Q8_0:
        return (Place){step, -1, 0, 0};
    case Q4_K:
        return (Place){3 + block / 2 * 8 + step, -1, block % 2 * 4, 0};
    case Q5_K:
        return (Place){11 + block / 2 * 8 + step, 3 + step, block % 2 * 4, block};
    case Q6_K: {
        const unsigned column = block % 8 * 4 + (unsigned)step;  // in fours, of the half of the piece
        return (Place){block / 8 * 16 + column % 16, 32 + block / 8 * 8 + column % 8, column / 16 * 4, column / 8 * 2};
    }
    case IQ4_XS:
        return (Place){1 + block * 4 + in_half, -1, 4 * half, 0};
    default: {
        const int words = form.offsets ? 2 : 1, planes = form.bits / 4;
        const int word = words + step / 2;
        return (Place){word + (planes - 1) * form.block / 8, planes == 2 ? word : -1, step % 2 * 4, step % 2 * 4};
    }
    }
}

ALWAYS_INLINE float half_to_float(const uint8_t *at) {
    uint16_t half;
    memcpy(&half, at, sizeof half);
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, size = half & 0x7fff;
    if (size < 0x400) {  // below the normal ones
        const float value = (float)size * 0x1p-24f;
        return sign ? -value : value;
    }
    const uint32_t bits = sign | (size >= 0x7c00 ? size << 13 | 0x7f800000 : (size << 13) + 0x38000000);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// A byte of one row's words.
ALWAYS_INLINE int byte_of(const uint8_t *words, int row, int byte) {
    return words[(byte / 4 * GROUP + row) * 4 + byte % 4];
}

// The small integer of a block of Q4_K or Q5_K: its scale (`first` 0) or its minimum (4).
ALWAYS_INLINE int six_bits(const uint8_t *words, int row, int block, int first) {
    if (block < 4) return byte_of(words, row, first + block) & 63;
    const int low = byte_of(words, row, 4 + block), high = byte_of(words, row, first + block - 4);
    return (first == 0 ? low & 15 : low >> 4) | (high >> 6 << 4);
}

// Of one row of a block.
ALWAYS_INLINE float scale_at(Form form, const uint8_t *piece, int row, int block) {
    const uint8_t *words = words_of(form, piece);
    if (form.type == OWN) {
        float scale;
        memcpy(&scale, words + 4 * row, sizeof scale);
        return scale;
    }
    const float scale = half_to_float(piece + 2 * row);
    switch (form.type) {
    case Q4_K:
    case Q5_K:
        return scale * (float)six_bits(words, row, block, 0);
    case Q6_K:
        return scale * (float)(int8_t)byte_of(words, row, 192 + block);
    case IQ4_XS: {
        const int high = (piece[2 * (GROUP + row) + block / 4] >> (block % 4 * 2)) & 3;
        const int low = (byte_of(words, row, block / 2) >> (block % 2 * 4)) & 15;
        return scale * (float)((low | high << 4) - 32);
    }
    default:
        return scale;
    }
}

ALWAYS_INLINE float offset_at(Form form, const uint8_t *piece, int row, int block) {
    if (form.type == OWN) {
        float offset;
        memcpy(&offset, piece + 4 * (GROUP + row), sizeof offset);
        return offset;
    }
    const float offset = half_to_float(piece + 2 * (GROUP + row));
    if (form.type == Q4_1 || form.type == Q5_1) return offset;
    return -offset * (float)six_bits(words_of(form, piece), row, block, 4);
}

// The code of column 4 * step + k of a block.
ALWAYS_INLINE int code_at(Form form, const uint8_t *piece, int row, int block, int step, int k) {
    const uint8_t *words = words_of(form, piece);
    const Place place = place_of(form, block, step);
    const int low = byte_of(words, row, 4 * place.low + k);
    if (form.type == Q8_0) return low ^ 128;
    const int code = (low >> place.shift) & 15;
    if (form.type == IQ4_NL || form.type == IQ4_XS) return IQ4_TABLE[code];
    if (place.high < 0) return code;
    const int high = byte_of(words, row, 4 * place.high + k) >> place.bit;
    return code | (high & ((1 << (form.bits - 4)) - 1)) << 4;
}
