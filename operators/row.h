// Rounding one row to int8, in plain C that a compiler turns into the vectors of whatever it builds for.
#pragma once

#include <math.h>
#include <string.h>

#include "blocks.h"

static inline __attribute__((always_inline)) uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline __attribute__((always_inline)) float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// e^x for |x| <= 87: 2^n * e^r, |r| <= ln(2)/2, and Taylor's polynomial of degree 7 for e^r (error below 2^-23).
static inline __attribute__((always_inline)) float exponential(float x) {
    const float n = __builtin_rintf(x * 0x1.715476p+0f);
    const float r = fmaf(n, 0x1.05c610p-29f, fmaf(n, -0x1.62e430p-1f, x));
    float p = 0x1.a01a02p-13f;
    p = fmaf(p, r, 0x1.6c16c2p-10f);
    p = fmaf(p, r, 0x1.111112p-7f);
    p = fmaf(p, r, 0x1.555556p-5f);
    p = fmaf(p, r, 0x1.555556p-3f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return p * float_of((uint32_t)((int32_t)n + 127) << 23);
}

// SiLU is x * sigmoid(x); GELU's tanh form is x * sigmoid(2u), u = sqrt(2/pi) * (x + 0.044715 x^3).
static inline __attribute__((always_inline)) float gated(float x, float up, Gate gate) {
    float z = x;
    if (gate == GATE_GELU) z = 1.5957691216f * fmaf(0.044715f * x * x, x, x);
    z = z < -87.0f ? -87.0f : z > 87.0f ? 87.0f : z;
    return x / (1.0f + exponential(-z)) * up;
}

static inline __attribute__((always_inline)) void quantise_block(const float *x, int block, Rows rows, int64_t at) {
    // Of floats without their sign, the order is that of their bits; so a NaN is found too.
    uint32_t largest_bits = 0;
    for (int k = 0; k < block; k++) {
        const uint32_t size = bits_of(x[k]) & 0x7fffffff;
        largest_bits = size > largest_bits ? size : largest_bits;
    }
    const float largest = float_of(largest_bits);
    const bool tiny = largest < 1e-30f, finite = largest_bits < 0x7f800000;
    const float scale = tiny || !finite ? 0.0f : 127.0f / largest;
    int8_t *codes = rows.codes + at * block;
    int32_t total = 0;
    for (int k = 0; k < block; k++) {
        const int32_t code = finite ? (int32_t)__builtin_rintf(x[k] * scale) : 0;
        codes[k] = (int8_t)code;
        total += code;
    }
    const float step = tiny ? 0.0f : finite ? largest / 127.0f : NAN;
    rows.steps[at] = step;
    rows.starts[at] = -rows.zero * total;
    rows.sums[at] = step * (float)total;
}

static inline __attribute__((always_inline)) void quantise(
    const float *x, int64_t blocks, int block, Gate gate, Rows rows, int64_t row) {
    float active[MAX_BLOCK];
    for (int64_t b = 0; b < blocks; b++) {
        const float *from = x + b * block;
        if (gate != GATE_NONE) {
            for (int k = 0; k < block; k++) active[k] = gated(from[k], from[blocks * block + k], gate);
            from = active;
        }
        quantise_block(from, block, rows, row * blocks + b);
    }
}

// With constants for the compiler to unroll by.
static inline __attribute__((always_inline)) void quantise_any(
    const float *x, int64_t blocks, int block, Gate gate, Rows rows, int64_t row) {
    const bool wide = block == 32;
    if (gate == GATE_NONE)
        wide ? quantise(x, blocks, 32, GATE_NONE, rows, row) : quantise(x, blocks, 16, GATE_NONE, rows, row);
    else if (gate == GATE_SILU)
        wide ? quantise(x, blocks, 32, GATE_SILU, rows, row) : quantise(x, blocks, 16, GATE_SILU, rows, row);
    else
        wide ? quantise(x, blocks, 32, GATE_GELU, rows, row) : quantise(x, blocks, 16, GATE_GELU, rows, row);
}
